package main

import (
	"bytes"
	"context"
	"fmt"
	"go/ast"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// One binary holds all mutants that are inside functions, because to compile each
// alone takes longer than its tests (Untch, Offutt, Harrold: Mutation analysis using
// mutant schemata, 1993). A function has a copy for each of its mutants. What is
// called in its place calls the copy whose number is in the environment.
const numberVariable = "MUTANT"

// source is a file of the package.
type source struct {
	name string // without the folder
	text []byte
	fset *token.FileSet
	file *ast.File
}

// offset returns the offset of p in the file.
func (s *source) offset(p token.Pos) int { return s.fset.Position(p).Offset }

// slice returns the text of n.
func (s *source) slice(n ast.Node) string { return string(s.text[s.offset(n.Pos()):s.offset(n.End())]) }

// combined is the text of a file with copies of its functions.
type combined struct {
	bytes.Buffer
	lines []int // the first line of each copy
	of    []int // the number of the mutant in each copy, or 0
}

// mutantAt returns the number of the mutant that is in the line, or 0.
func (c *combined) mutantAt(line int) int {
	i, found := slices.BinarySearch(c.lines, line)
	if !found {
		i--
	}
	if i < 0 {
		return 0
	}
	return c.of[i]
}

// add adds text, in which the mutant of that number is.
func (c *combined) add(number int, text string) {
	c.lines = append(c.lines, bytes.Count(c.Bytes(), []byte("\n"))+1)
	c.of = append(c.of, number)
	c.WriteString(text + "\n")
}

// combine returns the file with those mutants of it that have a number.
func combine(s *source, mutants []mutant) *combined {
	byFunction := map[*ast.FuncDecl][]mutant{}
	for _, m := range mutants {
		if m.file == s.name && m.number > 0 {
			byFunction[m.function] = append(byFunction[m.function], m)
		}
	}
	var c combined
	end := 0
	for _, d := range s.file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || byFunction[f] == nil {
			continue
		}
		start, name := s.offset(f.Pos()), s.offset(f.Name.End())
		c.add(0, string(s.text[end:start]))
		end = s.offset(f.End())
		c.add(0, s.choose(f, byFunction[f]))
		rename := func(number, start, end int) string {
			return string(s.text[start:name]) + copyName(number) + string(s.text[name:end])
		}
		c.add(0, rename(0, start, end))
		for _, m := range byFunction[f] {
			c.add(m.number, rename(m.number, start, m.start)+m.with+string(s.text[m.end:end]))
		}
	}
	c.add(0, string(s.text[end:]))
	return &c
}

// copyName returns what is added to the name of a function in a copy.
func copyName(number int) string { return "__" + strconv.Itoa(number) }

// choose returns a function with the signature of f that calls one of its copies.
func (s *source) choose(f *ast.FuncDecl, mutants []mutant) string {
	receiver, called := "", f.Name.Name
	if f.Recv != nil {
		receiver, called = "(r__ "+s.slice(f.Recv.List[0].Type)+") ", "r__."+called
	}
	types, instance := "", ""
	if f.Type.TypeParams != nil {
		types = s.slice(f.Type.TypeParams)
		var names []string
		for _, field := range f.Type.TypeParams.List {
			for _, n := range field.Names {
				names = append(names, n.Name)
			}
		}
		instance = "[" + strings.Join(names, ", ") + "]"
	}
	var parameters, arguments []string
	for _, field := range f.Type.Params.List {
		for range max(1, len(field.Names)) {
			p := "p__" + strconv.Itoa(len(parameters))
			parameters = append(parameters, p+" "+s.slice(field.Type))
			if _, ok := field.Type.(*ast.Ellipsis); ok {
				p += "..."
			}
			arguments = append(arguments, p)
		}
	}
	results, before, after := "", "", "; return"
	if f.Type.Results != nil {
		results, before, after = " "+s.slice(f.Type.Results), "return ", ""
	}
	call := func(number int) string {
		return before + called + copyName(number) + instance + "(" + strings.Join(arguments, ", ") + ")" + after + "\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "func %s%s%s(%s)%s {\nswitch mutant__ {\n", receiver, f.Name.Name, types, strings.Join(parameters, ", "), results)
	for _, m := range mutants {
		fmt.Fprintf(&b, "case %d: %s", m.number, call(m.number))
	}
	b.WriteString("}\n" + call(0) + "}\n")
	return b.String()
}

var compilerError = regexp.MustCompile(`(?m)^\S*?([^/\s]+\.go):(\d+)(?::\d+)?: `)

// compileAll compiles the binary of all mutants that are inside a function, and
// gives them numbers. Those that do not compile become invalid.
func (r *runner) compileAll(ctx context.Context, sources map[string]*source, mutants []mutant) error {
	n := 0
	for i := range mutants {
		m := &mutants[i]
		if f := m.function; f != nil && m.start > sources[m.file].offset(f.Body.Pos()) && f.Name.Name != "init" && f.Name.Name != "main" {
			n++
			m.number = n
		}
	}
	for n > 0 {
		files := map[string]*combined{}
		texts := map[string][]byte{}
		for name, s := range sources {
			files[name] = combine(s, mutants)
			texts[name] = files[name].Bytes()
			texts["mutant__.go"] = fmt.Appendf(nil, "package %s\n\nimport (\n\"os\"\n\"strconv\"\n)\n\nvar mutant__, _ = strconv.Atoi(os.Getenv(%q))\n",
				s.file.Name.Name, numberVariable)
		}
		overlay, err := r.overlay(r.temp, texts)
		if err != nil {
			return err
		}
		out, err := r.compile(ctx, filepath.Join(r.temp, "all.test"), overlay, "-gcflags=-e")
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		wrong := map[int]bool{}
		for _, match := range compilerError.FindAllSubmatch(out, -1) {
			line, _ := strconv.Atoi(string(match[2]))
			if c := files[string(match[1])]; c != nil && c.mutantAt(line) > 0 {
				wrong[c.mutantAt(line)] = true
			}
		}
		if len(wrong) == 0 {
			return fmt.Errorf("all mutants at once do not compile: %w\n%s", err, out)
		}
		for i := range mutants {
			if wrong[mutants[i].number] {
				mutants[i].number, mutants[i].invalid = 0, true
			}
		}
	}
	return nil
}
