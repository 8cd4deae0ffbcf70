"""The allow-list of TeX macros: all that a formula may contain.

These are the macros of MathJax's packages base and ams, and the harmless ones of boldsymbol, braket,
cancel, centernot, color, extpfeil, gensymb, mathtools, mhchem, textcomp and upgreek
(https://docs.mathjax.org/en/v3.2-latest/input/tex/macros/index.html).

The macros of those packages that are missing here do one of these things:

- They load or run something: ``\\require``, ``\\mmlToken`` (an image from any address), ``\\unicode``.
- They carry links, classes, ids or styles: ``\\href``, ``\\class``, ``\\style``, ``\\bbox``, ``\\colorbox``.
- They define a macro, which outlives the formula: ``\\def``, ``\\newcommand``, ``\\DeclareMathOperator``.
- They lay things over what is next to them: ``\\rlap``, ``\\smash``, ``\\moveleft``.
- They copy their arguments, and nobody needs them: ``\\prescript``, ``\\mathchoice``.
"""

from __future__ import annotations

__all__ = ["DECLARATIONS", "MACROS", "SLOW_MACROS"]

_MACROS = """
# Greek letters
alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon phi
chi psi omega varepsilon vartheta varpi varrho varsigma varphi Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi
Psi Omega digamma varkappa varGamma varDelta varTheta varLambda varXi varPi varSigma varUpsilon varPhi varPsi
varOmega upalpha upbeta upgamma updelta upepsilon upzeta upeta uptheta upiota upkappa uplambda upmu upnu upxi
upomicron uppi uprho upsigma uptau upupsilon upphi upchi uppsi upomega upvarepsilon upvartheta upvarpi upvarrho
upvarsigma upvarphi Upgamma Updelta Uptheta Uplambda Upxi Uppi Upsigma Upupsilon Upphi Uppsi Upomega
# other letters and symbols
S aleph hbar imath jmath ell wp Re Im partial infty prime emptyset nabla top bot angle triangle backslash forall
exists neg lnot flat natural sharp clubsuit diamondsuit heartsuit spadesuit beth gimel daleth backprime hslash
varnothing blacktriangle triangledown blacktriangledown square Box blacksquare lozenge Diamond blacklozenge
circledS bigstar sphericalangle measuredangle nexists complement mho eth Finv diagup Game diagdown Bbbk yen
circledR checkmark maltese And
# big operators
coprod bigvee bigwedge biguplus bigcap bigcup int intop iint iiint prod sum bigotimes bigoplus bigodot oint
bigsqcup smallint iiiint idotsint bigtimes
# binary operators and relations
surd triangleleft triangleright bigtriangleup bigtriangledown wedge land vee lor cap cup ddagger dagger sqcap
sqcup uplus amalg diamond bullet wr div divsymbol odot oslash otimes ominus oplus mp pm circ bigcirc setminus
cdot ast times star propto sqsubseteq sqsupseteq parallel mid dashv vdash leq le geq ge lt gt succ prec approx
succeq preceq supset subset supseteq subseteq in ni notin owns gg ll sim simeq perp equiv asymp smile frown ne
neq cong doteq bowtie models notChar ldots cdots vdots ddots dotsc dotsb dotsm dotsi dotso ldotp cdotp colon
# binary operators and relations of amssymb
dotplus ltimes smallsetminus rtimes Cap doublecap leftthreetimes Cup doublecup rightthreetimes barwedge
curlywedge veebar curlyvee doublebarwedge boxminus circleddash boxtimes circledast boxdot circledcirc boxplus
centerdot divideontimes intercal leqq geqq leqslant geqslant eqslantless eqslantgtr lesssim gtrsim lessapprox
gtrapprox approxeq lessdot gtrdot lll llless ggg gggtr lessgtr gtrless lesseqgtr gtreqless lesseqqgtr gtreqqless
doteqdot Doteq eqcirc risingdotseq circeq fallingdotseq triangleq backsim thicksim backsimeq thickapprox
subseteqq supseteqq Subset Supset sqsubset sqsupset preccurlyeq succcurlyeq curlyeqprec curlyeqsucc precsim
succsim precapprox succapprox vartriangleleft lhd vartriangleright rhd trianglelefteq unlhd trianglerighteq
unrhd vDash Vdash Vvdash smallsmile shortmid smallfrown shortparallel bumpeq between Bumpeq pitchfork varpropto
backepsilon blacktriangleleft blacktriangleright therefore because eqsim vartriangle Join nless ngtr nleq ngeq
nleqslant ngeqslant nleqq ngeqq lneq gneq lneqq gneqq lvertneqq gvertneqq lnsim gnsim lnapprox gnapprox nprec
nsucc npreceq nsucceq precneqq succneqq precnsim succnsim precnapprox succnapprox nsim ncong nshortmid
nshortparallel nmid nparallel nvdash nvDash nVdash nVDash ntriangleleft ntriangleright ntrianglelefteq
ntrianglerighteq nsubseteq nsupseteq nsubseteqq nsupseteqq subsetneq supsetneq varsubsetneq varsupsetneq
subsetneqq supsetneqq varsubsetneqq varsupsetneqq
# arrows
Leftrightarrow Leftarrow Rightarrow leftrightarrow leftarrow gets rightarrow to mapsto leftharpoonup
leftharpoondown rightharpoonup rightharpoondown nearrow searrow nwarrow swarrow rightleftharpoons hookrightarrow
hookleftarrow longleftarrow Longleftarrow longrightarrow Longrightarrow Longleftrightarrow longleftrightarrow
longmapsto leftleftarrows rightrightarrows leftrightarrows rightleftarrows Lleftarrow Rrightarrow
twoheadleftarrow twoheadrightarrow leftarrowtail rightarrowtail looparrowleft looparrowright leftrightharpoons
curvearrowleft curvearrowright circlearrowleft circlearrowright Lsh Rsh upuparrows downdownarrows upharpoonleft
upharpoonright downharpoonleft restriction multimap downharpoonright leftrightsquigarrow rightsquigarrow leadsto
dashrightarrow dashleftarrow nleftarrow nrightarrow nLeftarrow nRightarrow nleftrightarrow nLeftrightarrow
# delimiters, and macros that give them a size
lmoustache rmoustache lgroup rgroup arrowvert Arrowvert bracevert Vert vert uparrow downarrow updownarrow
Uparrow Downarrow Updownarrow rangle langle rbrace lbrace rceil lceil rfloor lfloor lbrack rbrack ulcorner
urcorner llcorner lrcorner lvert rvert lVert rVert left right middle big Big bigg Bigg bigl Bigl biggl Biggl
bigr Bigr biggr Biggr bigm Bigm biggm Biggm
# names of functions
arcsin arccos arctan arg cos cosh cot coth csc deg det dim exp gcd hom inf ker lg lim liminf limsup ln log max
min Pr sec sin sinh sup tan tanh limits nolimits bmod pmod mod pod injlim projlim varliminf varlimsup varinjlim
varprojlim operatorname
# fractions, roots and binomials
frac tfrac dfrac cfrac genfrac binom tbinom dbinom over overwithdelims atop atopwithdelims above abovewithdelims
choose brace brack sqrt root of uproot leftroot splitfrac splitdfrac
# accents, and what is above or below
overline underline overbrace underbrace overparen underparen overrightarrow underrightarrow overleftarrow
underleftarrow overleftrightarrow underleftrightarrow overset underset overunderset overbracket underbracket
acute grave ddot tilde bar breve check hat vec dot widetilde widehat mathring dddot ddddot skew stackrel
stackbin buildrel sideset substack cramped adjustlimits xmathstrut not centernot cancel bcancel
xcancel cancelto boxed fbox framebox
# arrows with a text
xrightarrow xleftarrow xleftrightarrow xLeftarrow xRightarrow xLeftrightarrow xhookleftarrow xhookrightarrow
xmapsto xrightharpoondown xleftharpoondown xrightleftharpoons xrightharpoonup xleftharpoonup xleftrightharpoons
xtwoheadrightarrow xtwoheadleftarrow xlongequal xtofrom
# fonts and text
mathrm mathup mathnormal mathbf mathbfup mathit mathbfit mathbb mathfrak mathbffrak mathscr mathbfscr mathsf
mathsfup mathbfsf mathbfsfup mathsfit mathbfsfit mathtt mathcal mathbfcal symrm symup symnormal symbf symbfup
symit symbfit symbb symfrak symbffrak symscr symbfscr symsf symsfup symbfsf symbfsfup symsfit symbfsfit symtt
symcal symbfcal textrm textup textnormal textit textbf textsf texttt rm mit oldstyle cal it bf bbFont scr frak
sf tt Bbb boldsymbol pmb text mbox hbox emph
# sizes and styles
displaystyle textstyle scriptstyle scriptscriptstyle tiny Tiny scriptsize small normalsize large Large LARGE
huge Huge
# spaces, struts and kinds of atoms
enspace quad qquad thinspace negthinspace nobreakspace negmedspace negthickspace medspace thickspace hskip
hspace kern mskip mspace mkern rule Rule Space nonscript strut mathstrut phantom vphantom hphantom raise lower
mathord mathop mathopen mathclose mathbin mathrel mathpunct mathinner vcenter space hfill hfil hfilll newline cr
# environments, their rows and their tags
begin end hline hdashline matrix array pmatrix cases eqalign displaylines eqalignno leqalignno shoveleft
shoveright tag notag nonumber label ref eqref intertext vdotswithin shortvdotswithin
# dots, logic and marks
dots iff implies impliedby TeX LaTeX nuparrow ndownarrow
# colours, of which the filter checks the name
color textcolor
# colons of mathtools
centercolon ordinarycolon coloneqq Coloneqq coloneq Coloneq eqqcolon Eqqcolon eqcolon Eqcolon colonapprox
Colonapprox colonsim Colonsim dblcolon
# brackets of quantum mechanics (braket)
bra ket braket Bra Ket Braket set Set ketbra Ketbra
# chemistry and units (mhchem, gensymb)
ce pu ohm
degree celsius perthousand micro
# signs of text (textcomp)
textasciicircum textasciitilde textasteriskcentered textbackslash textbar textbraceleft textbraceright
textbullet textdagger textdaggerdbl textellipsis textemdash textendash textexclamdown textgreater textless
textordfeminine textordmasculine textparagraph textperiodcentered textquestiondown textquotedblleft
textquotedblright textquoteleft textquoteright textsection textunderscore textvisiblespace textacutedbl
textasciiacute textasciibreve textasciicaron textasciidieresis textasciimacron textgravedbl texttildelow
textbaht textcent textcolonmonetary textcurrency textdollar textdong texteuro textflorin textguarani textlira
textnaira textpeso textsterling textwon textyen textcircledP textcompwordmark textcopyleft textcopyright
textregistered textservicemark texttrademark textbardbl textbigcircle textblank textbrokenbar textdiscount
textestimated textinterrobang textinterrobangdown textmusicalnote textnumero textopenbullet textpertenthousand
textperthousand textrecipe textreferencemark textlangle textrangle textlbrackdbl textrbrackdbl textlquill
textrquill textcelsius textdegree textdiv textdownarrow textfractionsolidus textleftarrow textlnot textmho
textminus textmu textohm textonehalf textonequarter textonesuperior textpm textrightarrow textsurd
textthreequarters textthreesuperior texttimes texttwosuperior textuparrow textborn textdied textdivorced
textmarried textcentoldstyle textdollaroldstyle textzerooldstyle textoneoldstyle texttwooldstyle
textthreeoldstyle textfouroldstyle textfiveoldstyle textsixoldstyle textsevenoldstyle texteightoldstyle
textnineoldstyle
# macros that MathJax does not know but that answers contain: MathJax shows the name
bm intertext mathds mathbbm llbracket rrbracket argmax argmin medspace thickspace textsc dv pdv qty norm abs R N Z Q
"""
MACROS = frozenset(name for line in _MACROS.splitlines() if not line.startswith("#") for name in line.split())

#: The macros that act on all that follows in their group. MathJax nests a group for each, although
#: there is no brace. The value is the factor of the size.
DECLARATIONS = {
    **dict.fromkeys(["displaystyle", "textstyle", "scriptstyle", "scriptscriptstyle", "color"], 1.0),
    **dict.fromkeys(["raise", "lower", "buildrel", "root", "nonscript", "normalsize"], 1.0),
    **dict.fromkeys(["tiny", "Tiny", "scriptsize", "small"], 1.0),
    "large": 1.2,
    "Large": 1.44,
    "LARGE": 1.73,
    "huge": 2.07,
    "Huge": 2.49,
}

#: The macros that are slower than others, with their weights (see :func:`nbchat.view.html.formula_filter.weigh`).
SLOW_MACROS = {
    **dict.fromkeys(["LaTeX", "TeX"], 20),
    **dict.fromkeys(["Coloneqq", "Coloneq", "Eqqcolon", "Eqcolon", "Colonapprox", "Colonsim"], 12),
    **dict.fromkeys(["coloneqq", "coloneq", "eqqcolon", "eqcolon", "colonapprox", "colonsim"], 12),
    **dict.fromkeys(["bra", "ket", "Bra", "Ket", "braket", "Braket", "ketbra", "Ketbra", "set", "Set"], 8),
    **dict.fromkeys(["iff", "implies", "impliedby", "And", "choose", "brace", "brack"], 8),
}
