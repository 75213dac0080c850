package auth

import (
	_ "embed"
	"strings"
)

// commonPasswords are those of at least 8 characters among the 20,000 that
// people choose most, in lower case, one a line: the list that Royce Williams
// compiled from published breaches and that Django's CommonPasswordValidator
// uses (Django 5.1, django/contrib/auth/common-passwords.txt.gz).
//
//go:embed common_passwords.txt
var commonPasswords string

// IsCommon reports whether the password, in any case, is among those that an
// attacker tries first.
func IsCommon(password string) bool {
	line := strings.ToLower(password) + "\n"
	return !strings.Contains(password, "\n") &&
		(strings.HasPrefix(commonPasswords, line) || strings.Contains(commonPasswords, "\n"+line))
}
