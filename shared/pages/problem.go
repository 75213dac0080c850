package pages

import (
	"bytes"
	"html/template"
	"slices"
	"sync"

	"orgservice/shared/api"
)

var problemPage = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("").Parse(string(asset("problem.html"))))
})

// problem returns the page of a type of problem.
func problem(reason string) (api.Page, bool) {
	var page struct {
		api.Problem
		Title  string
		Routes []api.Route   // that may answer with it
		Others []api.Problem // all problems, each once
	}
	seen := map[string]bool{}
	for _, r := range api.Routes() {
		for _, p := range r.Problems {
			if p.Reason == reason {
				page.Problem = p
				page.Routes = append(page.Routes, r)
			}
			if !seen[p.Reason] {
				seen[p.Reason] = true
				page.Others = append(page.Others, p)
			}
		}
	}
	if page.Routes == nil {
		return api.Page{}, false
	}
	slices.SortStableFunc(page.Others, func(a, b api.Problem) int { return a.Status - b.Status })
	var b bytes.Buffer
	if err := problemPage().Execute(&b, page); err != nil {
		panic(err) // an error of the template, which is constant
	}
	return api.Page{Type: html, Content: b.Bytes()}, true
}
