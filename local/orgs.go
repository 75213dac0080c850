package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/width"

	"orgservice/shared/org"
)

// orgs prints a table of the organizations in the database, the newest first, and
// changes nothing. Its argument is the most rows, by default 100.
func orgs(ctx context.Context, p *project, args []string) error {
	if len(args) > 1 {
		return errors.New("usage: go run ./local orgs [MOST]")
	}
	most := 100
	if text := strings.Join(args, ""); text != "" {
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return fmt.Errorf("%q is no number of organizations", text)
		}
		most = int(n)
	}
	store, _, release, err := p.store(ctx)
	if err != nil {
		return err
	}
	defer release()
	admins, err := store.Admins(ctx)
	if err != nil {
		return err
	}
	organizations, err := store.Organizations(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(organizations, func(a, b org.Organization) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), strings.Compare(b.ID, a.ID))
	})
	emails := map[string][]string{} // by organization
	for _, a := range admins {
		emails[a.OrganizationID] = append(emails[a.OrganizationID], a.Email)
	}
	rows := [][]string{{"NAME", "COLLECTION", "STATUS", "ADMIN", "DOCUMENTS", "CREATED", "ID"}}
	for _, o := range organizations[:min(most, len(organizations))] {
		documents, err := store.CountDocuments(ctx, o.Database, o.Collection)
		if err != nil {
			return err
		}
		rows = append(rows, []string{
			o.Name, o.Collection, string(o.Status), strings.Join(emails[o.ID], ","), strconv.FormatInt(documents, 10),
			o.CreatedAt.UTC().Format(time.RFC3339), o.ID,
		})
	}
	printTable(p.stdout, rows)
	if more := len(organizations) - most; more > 0 {
		fmt.Fprintf(p.stdout, "and %d more: make orgs N=%d lists all\n", more, len(organizations))
	}
	return nil
}

// printTable prints the rows with their cells aligned, in every script.
func printTable(out io.Writer, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			row[i] = printable(cell)
			widths[i] = max(widths[i], columns(row[i]))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell + strings.Repeat(" ", widths[i]-columns(cell)+2))
		}
		fmt.Fprintln(out, strings.TrimRight(line.String(), " "))
	}
}

// printable returns the text without the characters that control a terminal or the
// direction of writing.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// columns returns how many columns of a terminal the text takes.
func columns(text string) (n int) {
	for _, r := range text {
		kind := width.LookupRune(r).Kind()
		switch {
		case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf): // is drawn on the character before it
		case kind == width.EastAsianWide || kind == width.EastAsianFullwidth:
			n += 2
		default:
			n++
		}
	}
	return n
}
