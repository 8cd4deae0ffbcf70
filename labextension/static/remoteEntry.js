// Two plugins: the prompt of a %%claude cell is coloured as Markdown, with its {{ expressions }} marked; and an answer
// whose kernel died in the middle stays in the notebook as far as it had arrived.
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
      throw new Error(`nbchat: this application does not share ${name}`);
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

  async function coloursPlugin() {
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

  // --- the answer of a kernel that died ---------------------------------------------------------------
  //
  // An answer that arrives is a box of widgets, which nbchat replaces by a plain output at the end. A kernel that was
  // killed replaces nothing, and the saved notebook would hold a widget that nobody can show. The models of the
  // widgets, with all that had arrived, are still here then.

  const GONE = new Set(['restarting', 'autorestarting', 'terminating', 'dead']);
  const MARKER = '[the answer broke off: the kernel ended]';

  function* descendants(widget) {
    yield widget;
    for (const child of widget.children?.() ?? []) {
      yield* descendants(child);
    }
  }

  function hasClass(model, name) {
    return (model?.get('_dom_classes') ?? []).includes(name);
  }

  /** Return the box of an answer that arrives, or undefined if an output shows none. */
  function boxOf(output) {
    for (const widget of descendants(output)) {
      const model = widget._view?.model;
      if (model && hasClass(model, 'nbchat-live')) {
        return model.get('children')?.find(child => hasClass(child, 'nbchat-answer'));
      }
    }
  }

  /** Return the elements that a widget of the box shows. */
  function elementsOf(model) {
    const children = model.get('children');
    if (!children) {
      const template = document.createElement('template');
      template.innerHTML = model.get('value') ?? '';
      // All values but the head of a fold are inside an element that keeps MathJax away.
      const wrapper = [...template.content.children].find(child => child.classList.contains('mathjax_ignore'));
      return [...(wrapper ?? template.content).childNodes];
    }
    const [first, ...rest] = children.map(elementsOf);
    if (hasClass(model, 'nbchat-head')) {
      first?.[0]?.querySelector('summary')?.append(...rest.flat());
      return first ?? [];
    }
    if (hasClass(model, 'nbchat-fold')) {
      first?.find(node => node.tagName === 'DETAILS')?.append(...joined(rest.flat()));
      return first ?? [];
    }
    return [...(first ?? []), ...rest.flat()];
  }

  /** Return the nodes with the parts of one table, list or block of code in one element. */
  function joined(nodes) {
    const whole = [];
    for (const node of nodes) {
      const before = whole.findLast(other => other.nodeType === Node.ELEMENT_NODE);
      const goesOn = node.classList?.contains('nbchat-went-on') && before?.tagName === node.tagName;
      if (!goesOn) {
        whole.push(node);
        continue;
      }
      const [inner, more] = [before, node].map(part => part.querySelector(':scope > pre') ?? part);
      inner.append(...more.childNodes);
      before.classList.toggle('nbchat-goes-on', node.classList.contains('nbchat-goes-on'));
    }
    return whole;
  }

  /** Return the final output of an answer as far as it had arrived. Its HTML is what the kernel sent. */
  function outputOf(box) {
    const nodes = joined(elementsOf(box));
    const texts = nodes.map(node => node.textContent.trim()).filter(text => text);
    if (!texts.length) {
      return null;
    }
    const answer = document.createElement('div');
    answer.className = 'nbchat mathjax_ignore tex2jax_ignore';
    const marker = document.createElement('p');
    marker.appendChild(document.createElement('em')).textContent = MARKER;
    answer.append('\n', ...nodes, marker, '\n');
    for (const part of answer.querySelectorAll('.nbchat-goes-on, .nbchat-went-on')) {
      part.classList.remove('nbchat-goes-on', 'nbchat-went-on');
    }
    // A blank line would end the HTML where a notebook is exported as Markdown.
    const html = answer.outerHTML.replace(/<pre[\s>].*?<\/pre>/gs, block => block.replaceAll('\n', '&#10;'));
    return {
      output_type: 'display_data',
      data: { 'text/html': html, 'text/plain': [...texts, MARKER].join('\n\n') },
      metadata: { nbchat: { status: 'incomplete' } }
    };
  }

  /** Replace each answer that still arrives in a notebook by what has arrived. */
  function keepAnswers(panel) {
    for (const cell of panel.content.widgets) {
      const area = cell.outputArea;
      for (let number = 0; area && number < area.model.length; number++) {
        const box = area.widgets[number] && boxOf(area.widgets[number]);
        const output = box && outputOf(box);
        if (output) {
          area.model.set(number, output);
        }
      }
    }
  }

  async function keptPlugin() {
    const { INotebookTracker } = await shared('@jupyterlab/notebook');
    return {
      id: 'nbchat-prompts:kept',
      description: 'Keeps the answer of a %%claude cell whose kernel died.',
      autoStart: true,
      requires: [INotebookTracker],
      activate: (app, notebooks) => {
        const watch = (tracker, panel) => {
          panel.sessionContext.statusChanged.connect((context, status) => {
            if (GONE.has(status)) {
              keepAnswers(panel);
            }
          });
        };
        notebooks.forEach(panel => watch(notebooks, panel));
        notebooks.widgetAdded.connect(watch);
      }
    };
  }

  /** Return the plugins that this application can have. */
  async function plugins() {
    const made = await Promise.allSettled([coloursPlugin(), keptPlugin()]);
    made.filter(one => one.reason).forEach(one => console.warn('nbchat:', one.reason));
    return made.filter(one => one.value).map(one => one.value);
  }

  (window._JUPYTERLAB ??= {})['nbchat-prompts'] = {
    init: sharedModules => {
      scope = sharedModules;
    },
    get: async name => {
      const module = name === './extension' ? { default: await plugins(), __esModule: true } : {};
      return () => module;
    }
  };
})();
