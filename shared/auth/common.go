package auth

import (
	_ "embed"
	"sort"
	"strings"
)

// commonPasswords has, of the 20,000 most common passwords, those of at least 8
// characters: in lower case, one per line, in the order of their bytes. Royce Williams compiled the list from
// published breaches, and Django's CommonPasswordValidator uses it (Django 5.1,
// django/contrib/auth/common-passwords.txt.gz).
//
//go:embed common_passwords.txt
var commonPasswords string

// IsCommon reports whether the password, in any case, is one of the most common,
// which an attacker tries first.
func IsCommon(password string) bool {
	password = strings.ToLower(password)
	_, found := sort.Find(len(commonPasswords), func(i int) int {
		begin := strings.LastIndexByte(commonPasswords[:i], '\n') + 1
		length := strings.IndexByte(commonPasswords[begin:], '\n')
		return strings.Compare(password, commonPasswords[begin:begin+length])
	})
	return found
}
