package org

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

const (
	maxNameRunes  = 100
	maxSlugBytes  = 64
	maxEmailBytes = 254 // RFC 5321, section 4.5.3.1.3, without the angle brackets
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

// sluggedRule says how names are compared, to a person whose name has the slug.
func sluggedRule(slug string) string {
	return "names are compared by their letters and digits, and the slug of this one is " + slug
}

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
	slug := b.String()
	if len(slug) <= maxSlugBytes {
		return slug
	}
	// Atlas's smallest tiers allow 95 bytes for database and collection.
	sum := sha256.Sum256([]byte(slug))
	suffix := "_" + hex.EncodeToString(sum[:4])
	cut := maxSlugBytes - len(suffix)
	for !utf8.RuneStart(slug[cut]) {
		cut--
	}
	return strings.TrimRight(slug[:cut], "_") + suffix
}

func isInvisible(r rune) bool {
	return unicode.In(r, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

// parseEmail returns the address in the form in which it is stored and compared,
// without white space around it. Its error is the end of a sentence, as that of
// [ParseName].
func parseEmail(s string) (string, error) {
	s = strings.TrimSpace(s)
	switch {
	case s == "":
		return "", errors.New("is required")
	case len(s) > maxEmailBytes:
		return "", errors.New("must have at most 254 bytes")
	}
	address, err := mail.ParseAddress(s)
	if err != nil || address.Name != "" || address.Address != s || strings.ContainsFunc(s, isForbidden) {
		return "", errors.New("must be an email address such as admin@example.com")
	}
	return emailKey(s), nil
}

// emailKey returns the form in which an address is compared: without case.
func emailKey(s string) string { return strings.ToLower(norm.NFC.String(s)) }
