package org

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

const (
	maxNameRunes = 100
	maxSlugBytes = 64
)

// CollectionPrefix begins the name of every organization's collection.
const CollectionPrefix = "org_"

// Name is the name of an organization. Two names with the same slug are the
// same name.
type Name struct {
	Display string // as typed, in NFKC and with single spaces
	Slug    string // case-folded: letters, digits and single underscores
}

// Collection returns the name of the collection of an organization so named.
func (n Name) Collection() string { return CollectionPrefix + n.Slug }

// ParseName returns the name in s. Its error is the end of a sentence that begins
// with the name of a field, such as "is required".
func ParseName(s string) (Name, error) {
	// Tabs and line ends are white space and become spaces here. Any other
	// control character is refused.
	display := strings.Join(strings.Fields(norm.NFKC.String(s)), " ")
	switch {
	case display == "":
		return Name{}, errors.New("is required")
	case utf8.RuneCountInString(display) > maxNameRunes:
		return Name{}, errors.New("must have at most 100 characters")
	case strings.ContainsFunc(display, isForbidden):
		return Name{}, errors.New("must not hold control characters or malformed text")
	}
	slug := slugOf(display)
	if slug == "" {
		return Name{}, errors.New("must hold at least one letter or digit")
	}
	return Name{Display: display, Slug: slug}, nil
}

// isForbidden reports whether a character would make a name unreadable or look
// like another one: control characters, bidirectional controls, and the
// replacement character of text that could not be decoded.
func isForbidden(r rune) bool {
	return unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Bidi_Control, r) || r == utf8.RuneError
}

// mixable are the scripts that words of one language may mix, besides one script alone: the
// level "Highly Restrictive" of Unicode Technical Standard #39, section 5.2.
var mixable = [][]string{
	{"Latin", "Han", "Hiragana", "Katakana"},
	{"Latin", "Han", "Bopomofo"},
	{"Latin", "Han", "Hangul"},
	{"Greek", "Han", "Hiragana", "Katakana"}, // as in プラスα, but not in the standard
}

// checkNewName refuses a name for an organization that did not have it before, if one of its
// words mixes scripts, as Pаypal with a Cyrillic а does: it may look like another name. Its
// error is as that of [ParseName].
func checkNewName(n Name) error {
	if strings.ContainsFunc(n.Display, isNotOfName) || hasDottedDot(n.Display) {
		return errors.New("must not hold characters that can't be seen or told apart")
	}
	for word := range strings.FieldsFuncSeq(n.Display, func(r rune) bool {
		return !unicode.In(r, unicode.L, unicode.M, unicode.Nd) && !isInvisible(r)
	}) {
		scripts := scriptsOf(word)
		if len(scripts) > 1 && !slices.ContainsFunc(mixable, func(together []string) bool {
			return !slices.ContainsFunc(scripts, func(s string) bool { return !slices.Contains(together, s) })
		}) {
			return fmt.Errorf("must not mix %s in one word", strings.Join(scripts, " and "))
		}
	}
	return nil
}

// isNotOfName reports whether no new name may have the character, which is nobody's or shows
// nothing.
func isNotOfName(r rune) bool {
	return unicode.In(r, unicode.Co, unicode.Noncharacter_Code_Point) || r == '\u2800' || r == '\U0001d159'
}

// hasDottedDot reports whether the text has a dot above a letter that has one, such as i, where
// nobody sees it (Unicode Technical Standard #39, section 5.4).
func hasDottedDot(text string) bool {
	before := rune(0)
	for _, r := range text {
		if r == '\u0307' && unicode.Is(unicode.Soft_Dotted, before) {
			return true
		}
		before = r
	}
	return false
}

// parseNewName returns the name of an organization that did not have it before.
func parseNewName(s string) (Name, error) {
	n, err := ParseName(s)
	if err == nil {
		err = checkNewName(n)
	}
	return n, err
}

// scriptsOf returns the names of the scripts in the text, sorted, but for characters that
// several scripts have.
func scriptsOf(text string) []string {
	var found []string
	for _, r := range text {
		switch {
		case r <= unicode.MaxASCII && unicode.IsLetter(r):
			found = append(found, "Latin")
			continue
		case r == 'μ': // NFKC makes it of the sign for a millionth, too
			continue
		}
		for name, table := range unicode.Scripts {
			if name != "Common" && name != "Inherited" && unicode.Is(table, r) {
				found = append(found, name)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// slugOf returns the slug of a normalized name. It is the name in the form that
// Unicode defines for the comparison of identifiers (NFKC_Casefold), in which
// every run of characters other than letters and digits is one underscore, with
// none at the ends.
//
// A combining mark belongs to the letter that it follows: in scripts such as
// Devanagari vowels are combining marks, and without them राम and रोम would be
// one name. Invisible characters, such as a zero-width joiner, are left out, so
// that names which look the same are the same.
func slugOf(name string) string {
	slug := wholeSlug(name)
	if len(slug) <= maxSlugBytes {
		return slug
	}
	// Atlas's smallest tiers allow 95 bytes for database and collection.
	sum := sha256.Sum256([]byte(slug))
	return strings.TrimRight(cutSlug(slug), "_") + "_" + hex.EncodeToString(sum[:4])
}

// cutSlug returns what a slug that is too long begins with: what leaves room for an underscore
// and eight digits.
func cutSlug(slug string) string {
	cut := maxSlugBytes - len("_00000000")
	for !utf8.RuneStart(slug[cut]) {
		cut--
	}
	return slug[:cut]
}

// slugPrefix returns how the slugs of names begin that begin with the text.
func slugPrefix(text string) string {
	slug := wholeSlug(text)
	if len(slug) > maxSlugBytes-len("_00000000") {
		slug = cutSlug(slug)
	}
	return slug
}

// wholeSlug returns the slug of a name of any length.
func wholeSlug(name string) string {
	visible := strings.Map(func(r rune) rune {
		if isInvisible(r) {
			return -1
		}
		return r
	}, cases.Fold().String(name))
	var b strings.Builder
	inWord, gap := false, false
	for _, r := range norm.NFKC.String(visible) {
		switch {
		case unicode.IsLetter(r) || unicode.IsDigit(r) || inWord && unicode.In(r, unicode.Mn, unicode.Mc):
			if gap && b.Len() > 0 {
				b.WriteByte('_')
			}
			b.WriteRune(r)
			inWord, gap = true, false
		default:
			inWord, gap = false, true
		}
	}
	return b.String()
}

func isInvisible(r rune) bool {
	return unicode.In(r, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}
