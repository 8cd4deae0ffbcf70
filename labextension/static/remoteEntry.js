// The prompt of a %%claude cell is coloured as Markdown, with its {{ expressions }} marked.
//
// This file is a module federation container, written by hand: JupyterLab and Notebook 7 call init() with the modules
// that they share, and get() for the plugin. So nothing has to be built, and nothing of npm is shipped. The interface:
// https://jupyterlab.readthedocs.io/en/stable/extension/extension_dev.html#prebuilt-extensions and
// https://webpack.js.org/concepts/module-federation/#dynamic-remote-containers
(() => {
  'use strict';

  const PROMPT = /^\s*%%claude(?!\S)/;
  let scope = {};

  /** Return a module that the application shares; its own instance, if extensions bring others. */
  async function shared(name) {
    const versions = Object.values(scope[name] ?? {});
    const module = versions.find(version => version.loaded) ?? versions.find(isOfApplication) ?? versions[0];
    if (!module) {
      throw new Error(`nbchat: this application does not share ${name}, so prompts are coloured as Python`);
    }
    return (await module.get())();
  }

  function isOfApplication(version) {
    return /^@jupyterlab\/application-top|^@jupyter-notebook\/app/.test(version.from ?? '');
  }

  /** Return the extension of CodeMirror. `markdown` is a promise of the language. */
  function promptExtension({ EditorState, Prec, StateEffect, StateField }, view, { language }, markdown) {
    const arrived = StateEffect.define();
    const parser = StateField.define({
      create: () => null,
      update: (value, transaction) =>
        transaction.effects.reduce((found, effect) => (effect.is(arrived) ? effect.value : found), value)
    });
    const isPrompt = StateField.define({
      create: state => PROMPT.test(state.sliceDoc(0, 200)),
      update: (value, transaction) =>
        transaction.docChanged ? PROMPT.test(transaction.state.sliceDoc(0, 200)) : value
    });
    // The first language counts. Without a prompt there is none here, and Python stays.
    const asMarkdown = language.computeN([isPrompt, parser], state =>
      state.field(isPrompt) && state.field(parser) ? [state.field(parser)] : []
    );
    const loader = view.ViewPlugin.define(editor => {
      let open = true;
      markdown.then(found => open && found && editor.dispatch({ effects: arrived.of(found) }));
      return { destroy: () => (open = false) };
    });
    const expressions = new view.MatchDecorator({
      regexp: /(?<!\\)\{\{.*?\}\}/g,
      decoration: view.Decoration.mark({ class: 'nbchat-expression' })
    });
    const first = view.Decoration.mark({ class: 'nbchat-options' });
    const marks = view.ViewPlugin.fromClass(
      class {
        constructor(editor) {
          this.draw(editor);
        }
        update(update) {
          if (update.docChanged || update.viewportChanged) {
            this.draw(update.view);
          }
        }
        draw(editor) {
          const { state } = editor;
          this.expressions = state.field(isPrompt) ? expressions.createDeco(editor) : view.Decoration.none;
          this.options = view.Decoration.none;
          if (state.field(isPrompt)) {
            const line = state.doc.lineAt(state.sliceDoc(0, 200).search(/\S/));
            this.options = view.Decoration.set(first.range(line.from, line.to));
          }
        }
      },
      { provide: plugin => ['expressions', 'options'].map(name =>
          view.EditorView.decorations.of(editor => editor.plugin(plugin)?.[name] ?? view.Decoration.none)) }
    );
    const look = view.EditorView.baseTheme({
      '.nbchat-expression': { color: 'var(--jp-mirror-editor-variable-2-color)', fontWeight: '600' },
      '.nbchat-options, .nbchat-options *': { color: 'var(--jp-mirror-editor-meta-color)', fontWeight: 'normal' }
    });
    return Prec.highest([parser, isPrompt, asMarkdown, loader, marks, look]);
  }

  async function plugin() {
    const [jupyter, state, view, language] = await Promise.all(
      ['@jupyterlab/codemirror', '@codemirror/state', '@codemirror/view', '@codemirror/language'].map(shared)
    );
    return {
      id: 'nbchat-prompts:plugin',
      description: 'Colours the prompt of a %%claude cell as Markdown.',
      autoStart: true,
      requires: [jupyter.IEditorExtensionRegistry, jupyter.IEditorLanguageRegistry],
      activate: (app, extensions, languages) => {
        const markdown = languages
          .getLanguage('ipythongfm')
          .then(found => found?.support?.language)
          .catch(error => console.warn('nbchat: Markdown could not be loaded', error));
        const extension = promptExtension(state, view, language, markdown);
        extensions.addExtension({
          name: 'nbchat-prompts',
          factory: () => jupyter.EditorExtensionRegistry.createImmutableExtension(extension)
        });
      }
    };
  }

  (window._JUPYTERLAB ??= {})['nbchat-prompts'] = {
    init: sharedModules => {
      scope = sharedModules;
    },
    get: async name => {
      const module = name === './extension' ? { default: await plugin(), __esModule: true } : {};
      return () => module;
    }
  };
})();
