r"""The allow-list of the macros that a formula may have in LaTeX, with their arguments.

Each macro here is one of LaTeX, amsmath or amssymb, which every exporter loads. Each was compiled with xelatex
and unicode-math (the preamble of nbconvert) and with pdflatex: alone, as a script, as a cell and inside of
``\left … \right``. So a formula that has only these macros, each with its arguments, ends no document.

Macros of MathJax that are missing here are shown as the source of their formula.
"""

from __future__ import annotations

__all__ = ["ARGUMENTS", "DELIMITERS", "ENVIRONMENTS", "OUTERMOST", "RENAMED", "SIZES", "SYMBOLS", "TEXTS"]

#: The macros without arguments.
_SYMBOLS = """
aleph alpha amalg And angle approx approxeq arccos arcsin arctan arg ast asymp backepsilon backprime backsim
backsimeq backslash barwedge Bbbk because beta beth between bigcap bigcirc bigcup bigodot bigoplus bigotimes
bigsqcup bigstar bigtriangledown bigtriangleup biguplus bigvee bigwedge blacklozenge blacksquare blacktriangle
blacktriangledown blacktriangleleft blacktriangleright bot bowtie Box boxdot boxminus boxplus boxtimes bullet
Bumpeq bumpeq Cap cap cdot cdotp cdots centerdot checkmark chi circ circeq circlearrowleft circlearrowright
circledast circledcirc circleddash circledR circledS clubsuit colon complement cong coprod cos cosh cot coth csc
Cup cup curlyeqprec curlyeqsucc curlyvee curlywedge curvearrowleft curvearrowright dagger daleth dashleftarrow
dashrightarrow dashv ddagger ddots deg Delta delta det diagdown diagup Diamond diamond diamondsuit digamma dim
displaystyle div divideontimes Doteq doteq doteqdot dotplus dots dotsb dotsc dotsi dotsm dotso doublebarwedge
doublecap doublecup Downarrow downarrow downdownarrows downharpoonleft downharpoonright ell emptyset enspace
epsilon eqcirc eqsim eqslantgtr eqslantless equiv eta eth exists exp fallingdotseq Finv flat forall frown Game
Gamma gamma gcd ge geq geqq geqslant gets gg ggg gggtr gimel gnapprox gneq gneqq gnsim gtrapprox gtrdot
gtreqless gtreqqless gtrless gtrsim gvertneqq hbar heartsuit hom hookleftarrow hookrightarrow hslash idotsint
iff iiiint iiint iint Im imath impliedby implies in inf infty injlim int intercal intop iota jmath Join kappa
ker Lambda lambda land langle lbrace lbrack lceil ldotp ldots le leadsto Leftarrow leftarrow leftarrowtail
leftharpoondown leftharpoonup leftleftarrows Leftrightarrow leftrightarrow leftrightarrows leftrightharpoons
leftrightsquigarrow leftthreetimes leq leqq leqslant lessapprox lessdot lesseqgtr lesseqqgtr lessgtr lesssim
lfloor lg lgroup lhd lim liminf limsup ll llcorner Lleftarrow lll llless lmoustache ln lnapprox lneq lneqq lnot
lnsim log Longleftarrow longleftarrow Longleftrightarrow longleftrightarrow longmapsto Longrightarrow
longrightarrow looparrowleft looparrowright lor lozenge lrcorner Lsh ltimes lVert lvert lvertneqq maltese mapsto
max measuredangle medspace mho mid min models mp mu multimap nabla natural ncong ne nearrow neg negmedspace
negthickspace negthinspace neq nexists ngeq ngeqq ngeqslant ngtr ni nLeftarrow nleftarrow nLeftrightarrow
nleftrightarrow nleq nleqq nleqslant nless nmid nobreakspace notin nparallel nprec npreceq nRightarrow
nrightarrow nshortmid nshortparallel nsim nsubseteq nsubseteqq nsucc nsucceq nsupseteq nsupseteqq ntriangleleft
ntrianglelefteq ntriangleright ntrianglerighteq nu nVDash nVdash nvDash nvdash nwarrow odot oint Omega omega
ominus oplus oslash otimes owns parallel partial perp Phi phi Pi pi pitchfork pm Pr prec precapprox preccurlyeq
preceq precnapprox precneqq precnsim precsim prime prod projlim propto Psi psi qquad quad rangle rbrace rbrack
rceil Re restriction rfloor rgroup rhd rho Rightarrow rightarrow rightarrowtail rightharpoondown rightharpoonup
rightleftarrows rightleftharpoons rightrightarrows rightsquigarrow rightthreetimes risingdotseq rmoustache
Rrightarrow Rsh rtimes rVert rvert S scriptscriptstyle scriptstyle searrow sec setminus sharp shortmid
shortparallel Sigma sigma sim simeq sin sinh smallfrown smallint smallsetminus smallsmile smile spadesuit
sphericalangle sqcap sqcup sqsubset sqsubseteq sqsupset sqsupseteq square star strut Subset subset subseteq
subseteqq subsetneq subsetneqq succ succapprox succcurlyeq succeq succnapprox succneqq succnsim succsim sum sup
Supset supset supseteq supseteqq supsetneq supsetneqq surd swarrow tan tanh tau textstyle therefore Theta theta
thickapprox thicksim thickspace thinspace times to top triangle triangledown triangleleft trianglelefteq
triangleq triangleright trianglerighteq twoheadleftarrow twoheadrightarrow ulcorner unlhd unrhd Uparrow uparrow
Updownarrow updownarrow upharpoonleft upharpoonright uplus Upsilon upsilon upuparrows urcorner varDelta
varepsilon varGamma varinjlim varkappa varLambda varliminf varlimsup varnothing varOmega varPhi varphi varPi
varpi varprojlim varpropto varPsi varrho varSigma varsigma varsubsetneq varsubsetneqq varsupsetneq varsupsetneqq
varTheta vartheta vartriangle vartriangleleft vartriangleright varUpsilon varXi Vdash vDash vdash vdots vee
veebar Vert vert Vvdash wedge wp wr Xi xi yen zeta
"""
SYMBOLS = frozenset(_SYMBOLS.split())

_ARGUMENTS = {
    1: "overline underline overbrace underbrace overrightarrow underrightarrow overleftarrow underleftarrow "
    "overleftrightarrow underleftrightarrow acute grave ddot tilde bar breve check hat vec dot widetilde widehat "
    "mathring boxed boldsymbol phantom vphantom hphantom mathord mathop mathopen mathclose mathbin mathrel mathpunct "
    "mathinner mathrm mathnormal mathbf mathit mathbb mathfrak mathsf mathtt mathcal pmod mod pod",
    2: "frac tfrac dfrac cfrac binom tbinom dbinom overset underset stackrel",
}
#: The macros with arguments, with the number of their arguments.
ARGUMENTS = {name: count for count, names in _ARGUMENTS.items() for name in names.split()}

#: Macros that another one of the same look replaces, because no package of LaTeX that all exporters load has them.
RENAMED = {
    "bm": "boldsymbol",
    "symbf": "mathbf",
    "symrm": "mathrm",
    "mathscr": "mathcal",
    "mathup": "mathrm",
    "Bbb": "mathbb",
}
#: The macros whose argument is text.
TEXTS = {
    **dict.fromkeys(["text", "textrm", "textup", "textnormal", "mbox"], "text"),
    **{name: name for name in ("textit", "textbf", "textsf", "texttt")},
}
#: The macros that give the delimiter after them a size.
_SIZES = "big Big bigg Bigg bigl Bigl biggl Biggl bigr Bigr biggr Biggr bigm Bigm biggm Biggm"
SIZES = frozenset(_SIZES.split())
_DELIMITERS = """
langle rangle lbrace rbrace lceil rceil lfloor rfloor lbrack rbrack lvert rvert lVert rVert vert Vert backslash
uparrow downarrow updownarrow Uparrow Downarrow Updownarrow lgroup rgroup lmoustache rmoustache
"""
#: The delimiters, as they are written.
DELIMITERS = frozenset([*"()[]|/.", r"\{", r"\}", r"\|", *(f"\\{name}" for name in _DELIMITERS.split())])
#: The environments inside of a formula, each with the environment of LaTeX and the most columns. 0 means: many.
ENVIRONMENTS = {
    **{name: (name, 10) for name in ("matrix", "pmatrix", "bmatrix", "Bmatrix", "vmatrix", "Vmatrix")},
    **{f"{name}*": (name, 10) for name in ("matrix", "pmatrix", "bmatrix", "Bmatrix", "vmatrix", "Vmatrix")},
    **dict.fromkeys(["cases", "dcases"], ("cases", 2)),
    **dict.fromkeys(["aligned", "alignedat", "split"], ("aligned", 0)),
    "smallmatrix": ("smallmatrix", 0),
    "gathered": ("gathered", 1),
    "array": ("array", 0),
}
#: The environments that are a whole formula.
OUTERMOST = {
    **dict.fromkeys(["align", "align*", "alignat", "alignat*"], ("align*", 0)),
    **dict.fromkeys(["flalign", "flalign*"], ("flalign*", 0)),
    **dict.fromkeys(["gather", "gather*"], ("gather*", 1)),
    **dict.fromkeys(["multline", "multline*"], ("multline*", 1)),
    **dict.fromkeys(["eqnarray", "eqnarray*"], ("eqnarray*", 3)),
    **dict.fromkeys(["equation", "equation*"], ("equation*", 1)),
}
