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
  function promptExtension({ Compartment, EditorState, Prec, StateField }, view, { language }, markdown) {
    const startsPrompt = text => PROMPT.test(text.sliceString(0, 200));
    const isPrompt = StateField.define({
      create: state => startsPrompt(state.doc),
      update: (value, transaction) => (transaction.docChanged ? startsPrompt(transaction.newDoc) : value)
    });
    // CodeMirror takes the first language. An editor without a prompt gets none here, so its own stays.
    const none = [];
    const chosen = new Compartment();
    let asMarkdown = none;
    markdown.then(found => (asMarkdown = found ? language.of(found) : none));
    const chooser = EditorState.transactionExtender.of(transaction => {
      const wanted = startsPrompt(transaction.newDoc) ? asMarkdown : none;
      return chosen.get(transaction.startState) === wanted ? null : { effects: chosen.reconfigure(wanted) };
    });
    const loader = view.ViewPlugin.define(editor => {
      let open = true;
      markdown.then(() => open && editor.dispatch({})); // the chooser looks at the editor once more
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
      '.nbchat-options, .nbchat-options *': { color: 'var(--jp-mirror-editor-keyword-color)' },
      // In Markdown, df["a"] and list[Complaint] have the brackets of a link, which is underlined.
      'span:has(> .nbchat-expression), span:has(> .nbchat-options)': { textDecoration: 'none', fontWeight: 'normal' }
    });
    return Prec.highest([chosen.of(none), isPrompt, chooser, loader, marks, look]);
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
