package org

import (
	"context"
	"errors"
	"net/mail"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

const maxEmailBytes = 254 // RFC 5321, section 4.5.3.1.3, without the angle brackets

var errEmail = errors.New("must be an email address such as admin@example.com")

// parseEmail returns the address in the form in which it is stored and compared,
// without white space around it. Its error is the end of a sentence, as that of
// [ParseName].
func parseEmail(s string) (string, error) {
	s = norm.NFC.String(strings.TrimSpace(s))
	switch {
	case s == "":
		return "", errors.New("is required")
	case len(s) > maxEmailBytes:
		return "", errors.New("must have at most 254 bytes")
	case strings.ContainsFunc(s, isNotOfEmail):
		return "", errEmail
	}
	email := norm.NFC.String(olderEmailKey(s)) // the lower case may be another form
	local, domain := cutAddress(email)
	// A domain has one form (RFC 5891, with the mapping of UTS #46), and no IP address, with or
	// without brackets, stands for it.
	domain, err := idna.Lookup.ToUnicode(domain)
	top := domain[strings.LastIndexByte(domain, '.')+1:]
	if err != nil || top != "" && top[0] <= '9' { // programs take 127.1 and 0x7f.1 for IP addresses
		return "", errEmail
	}
	// Only now it is clear where the dots are.
	email = local + "@" + domain
	address, err := mail.ParseAddress(email)
	if err != nil || address.Name != "" || address.Address != email || len(email) > maxEmailBytes {
		return "", errEmail
	}
	return email, nil
}

// isNotOfEmail reports whether no email may have the character: control characters, invisible
// and blank ones, and İ, whose lower case is i, for older versions and for Go.
func isNotOfEmail(r rune) bool {
	if r <= unicode.MaxASCII {
		return r <= ' ' || r == 0x7f
	}
	return r == 'İ' || isForbidden(r) || isInvisible(r) || !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.So, unicode.Po) || r == '\u2800'
}

// cutAddress returns what is before and behind the last @. The domain is empty if there is none.
func cutAddress(email string) (local, domain string) {
	i := strings.LastIndexByte(email, '@')
	if i < 0 {
		return email, ""
	}
	return email[:i], email[i+1:]
}

// emailKey returns the form in which an address is compared: without white space around it
// and without case, and with a domain such as xn--mnchen-3ya.de in letters. What is no
// address any more, but was one for older versions, stays as it is but for these.
func emailKey(s string) string {
	if email, err := parseEmail(s); err == nil {
		return email
	}
	return olderEmailKey(strings.TrimSpace(s))
}

// olderEmailKey returns the form in which older versions compared an address.
func olderEmailKey(s string) string { return strings.ToLower(norm.NFC.String(s)) }

// storedEmail returns the form in which the email of a request is stored if there is an
// account. Older versions trimmed nothing, took addresses that begin or end with white space
// such as U+00A0, and took xn--mnchen-3ya.de for another domain than münchen.de. Its error is
// ErrUnavailable.
func (s *Service) storedEmail(ctx context.Context, given string) (string, error) {
	email := emailKey(given)
	for _, older := range olderForms(given, email) {
		admins, err := s.Store.AdminsByEmail(ctx, older)
		if err != nil {
			return "", err
		}
		if slices.ContainsFunc(admins, func(a Admin) bool { return !a.Asleep }) {
			return older, nil
		}
	}
	return email, nil
}

// olderForms returns the forms other than email in which older versions may have stored what
// was given.
func olderForms(given, email string) (forms []string) {
	local, domain := cutAddress(email)
	ascii, err := idna.Lookup.ToASCII(domain)
	if err != nil {
		ascii = domain
	}
	for _, form := range []string{olderEmailKey(given), local + "@" + ascii} {
		if form != email && domain != "" && !slices.Contains(forms, form) {
			forms = append(forms, form)
		}
	}
	return forms
}
