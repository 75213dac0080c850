package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
)

// mutant is a source file with one change.
type mutant struct {
	file       string // name without the folder
	line       int
	pos        token.Position
	start, end int    // offsets of the code that is replaced
	with       string // new code
	name       string // file, function and change; unique in the package

	function *ast.FuncDecl // that it is in; nil: none
	number   int           // in the binary of all mutants; 0: not there
	invalid  bool          // it does not compile
}

// source returns the file with the change.
func (m mutant) source(original []byte) []byte {
	return slices.Concat(original[:m.start], []byte(m.with), original[m.end:])
}

// mutator collects the mutants of one file.
type mutator struct {
	fset    *token.FileSet
	src     []byte
	file    string
	within  string // function that the code is in
	decl    *ast.FuncDecl
	mutants []mutant
}

// mutate returns the mutants of a parsed file. It uses the syntax alone and not
// the types, so some mutants do not compile. It never changes a string.
func mutate(fset *token.FileSet, f *ast.File, name string, src []byte) []mutant {
	m := &mutator{fset: fset, src: src, file: name}
	for _, decl := range f.Decls {
		m.within, m.decl = "package", nil
		if f, ok := decl.(*ast.FuncDecl); ok {
			m.within, m.decl = f.Name.Name, f
			if f.Recv != nil && len(f.Recv.List) == 1 {
				receiver := strings.TrimLeft(m.text(f.Recv.List[0].Type), "*")
				m.within = receiver + "." + m.within
			}
		}
		if g, ok := decl.(*ast.GenDecl); !ok || g.Tok != token.IMPORT {
			ast.PreorderStack(decl, nil, func(n ast.Node, stack []ast.Node) bool {
				m.node(n, stack)
				return true
			})
		}
	}
	slices.SortStableFunc(m.mutants, func(a, b mutant) int { return cmp.Compare(a.start, b.start) })
	count := map[string]int{}
	for i := range m.mutants {
		name := &m.mutants[i].name
		if count[*name]++; count[*name] > 1 {
			*name += fmt.Sprintf(" #%d", count[*name])
		}
	}
	return m.mutants
}

// offset returns the offset of p in the file.
func (m *mutator) offset(p token.Pos) int { return m.fset.Position(p).Offset }

// text returns the source of n.
func (m *mutator) text(n ast.Node) string { return string(m.src[m.offset(n.Pos()):m.offset(n.End())]) }

// add adds a mutant in which with replaces the source from start to end. The
// format and args describe the change.
func (m *mutator) add(at ast.Node, start, end token.Pos, with, format string, args ...any) {
	pos := m.fset.Position(at.Pos())
	what := strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " ")
	m.mutants = append(m.mutants, mutant{file: m.file, line: pos.Line, pos: pos, start: m.offset(start), end: m.offset(end),
		with: with, name: m.file + " " + m.within + ": " + what, function: m.decl})
}

// replace adds a mutant in which with replaces n.
func (m *mutator) replace(n ast.Node, with, format string, args ...any) {
	m.add(n, n.Pos(), n.End(), with, format, args...)
}

var (
	boundaries = map[token.Token]string{token.LSS: "<=", token.LEQ: "<", token.GTR: ">=", token.GEQ: ">"}
	arithmetic = map[token.Token]string{token.ADD: "-", token.SUB: "+", token.MUL: "/", token.QUO: "*", token.REM: "*"}
	equalities = map[token.Token]bool{token.EQL: true, token.NEQ: true}
)

// node adds the mutants of one node. The stack holds its ancestors.
func (m *mutator) node(n ast.Node, stack []ast.Node) {
	var parent ast.Node
	if len(stack) > 0 {
		parent = stack[len(stack)-1]
	}
	if e, ok := n.(ast.Expr); ok {
		m.condition(e, parent)
	}
	switch n := n.(type) {
	case *ast.BinaryExpr:
		swapped := boundaries[n.Op] + arithmetic[n.Op]
		if swapped != "" {
			m.add(n, n.OpPos, n.OpPos+token.Pos(len(n.Op.String())), swapped, "`%s` with %s", m.text(n), swapped)
		}
	case *ast.BasicLit:
		if i, err := strconv.Atoi(n.Value); n.Kind == token.INT && err == nil {
			where := ""
			if parent != nil {
				where = fmt.Sprintf(" in `%s`", m.text(parent))
			}
			m.replace(n, strconv.Itoa(i+1), "%d is %d%s", i, i+1, where)
			m.replace(n, strconv.Itoa(i-1), "%d is %d%s", i, i-1, where)
		}
	case *ast.Ident:
		if other := map[string]string{"true": "false", "false": "true"}[n.Name]; other != "" {
			m.replace(n, other, "`%s` with %s", m.text(parent), other)
		}
	case *ast.ExprStmt, *ast.IncDecStmt, *ast.DeferStmt, *ast.BranchStmt:
		m.replace(n, "", "`%s` dropped", m.text(n))
	case *ast.AssignStmt:
		if n.Tok == token.DEFINE {
			return
		}
		// The blanks keep the values used, for the compiler.
		blanks := "_" + strings.Repeat(", _", len(n.Lhs)-1) + " ="
		m.add(n, n.Pos(), n.Rhs[0].Pos(), blanks+" ", "`%s` dropped", m.text(n))
	case *ast.ReturnStmt:
		if len(n.Results) > 0 && m.isError(n.Results[len(n.Results)-1]) {
			last := n.Results[len(n.Results)-1]
			text := strings.TrimSuffix(m.text(n), m.text(last))
			m.replace(n, "_ = "+m.text(last)+"; "+text+"nil", "`%s` without the error", m.text(n))
		}
	case *ast.RangeStmt:
		m.add(n, n.Body.Lbrace+1, n.Body.Lbrace+1, "break;", "`range %s` never entered", m.text(n.X))
	case *ast.CompositeLit:
		for i := range n.Elts {
			m.dropElement(n.Elts, i, n.Lbrace, n.Rbrace)
		}
	case *ast.CallExpr:
		for i, arg := range n.Args {
			// It may be an option. Without another argument the code does not compile.
			if _, ok := arg.(*ast.CallExpr); ok && !m.isError(n) && n.Ellipsis == token.NoPos {
				m.dropElement(n.Args, i, n.Lparen, n.Rparen)
			}
		}
	}
}

// isLogic tells whether n is a binary expression with one of the operators.
func isLogic(n ast.Node, ops ...token.Token) bool {
	b, ok := n.(*ast.BinaryExpr)
	return ok && slices.Contains(ops, b.Op)
}

// condition adds mutants in which a condition is always or never true. They still
// evaluate it, for its side effects and so that no variable is unused.
func (m *mutator) condition(e ast.Expr, parent ast.Node) {
	never, always := false, false
	switch p := parent.(type) {
	case *ast.IfStmt:
		never, always = true, true
	case *ast.ForStmt:
		never = p.Cond == e // a loop with a condition that is always true would not end
	case *ast.ParenExpr:
	case *ast.UnaryExpr:
		// The mutants of the operand are those of the whole expression.
	default:
		if b, ok := e.(*ast.BinaryExpr); ok {
			_, ordered := boundaries[b.Op]
			never = ordered || equalities[b.Op] || b.Op == token.LAND || b.Op == token.LOR
		} else if u, ok := e.(*ast.UnaryExpr); ok {
			never = u.Op == token.NOT
		}
		always = never
		if isLogic(parent, token.LOR) {
			never, always = true, false // always true is a mutant of the whole expression already
		} else if isLogic(parent, token.LAND) {
			never, always = false, true
		}
	}
	if never {
		m.replace(e, "("+m.text(e)+") && false", "`%s` never", m.text(e))
	}
	if always {
		m.replace(e, "(("+m.text(e)+") || true)", "`%s` always", m.text(e))
	}
}

// isError tells whether an expression looks like an error.
func (m *mutator) isError(e ast.Expr) bool {
	text := strings.ToLower(m.text(e))
	for _, prefix := range []string{"err", "fmt.errorf(", "refusal("} {
		if strings.HasPrefix(text, prefix) {
			return true
		}
	}
	return false
}

// dropElement adds a mutant without element i of a list in brackets.
func (m *mutator) dropElement(elements []ast.Expr, i int, opening, closing token.Pos) {
	e := elements[i]
	start, end := opening+1, closing
	switch {
	case i > 0:
		start, end = elements[i-1].End(), e.End()
	case len(elements) > 1:
		start, end = e.Pos(), elements[1].Pos()
	}
	m.add(e, start, end, "", "`%s` left out", m.text(e))
}
