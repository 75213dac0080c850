package auth

import (
	_ "embed"
	"strings"
)

// commonPasswords has, of the 20,000 most common passwords, those of at least 8
// characters: in lower case, one per line. Royce Williams compiled the list from
// published breaches, and Django's CommonPasswordValidator uses it (Django 5.1,
// django/contrib/auth/common-passwords.txt.gz).
//
//go:embed common_passwords.txt
var commonPasswords string

// IsCommon reports whether the password, in any case, is one of the most common,
// which an attacker tries first.
func IsCommon(password string) bool {
	line := strings.ToLower(password) + "\n"
	return !strings.Contains(password, "\n") &&
		(strings.HasPrefix(commonPasswords, line) || strings.Contains(commonPasswords, "\n"+line))
}
