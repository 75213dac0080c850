package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// syntaxErrors says for people what is wrong with JSON, by a part of the message
// of encoding/json. That message is for programmers, and it quotes a character of
// the body, perhaps of a password.
var syntaxErrors = []struct{ decoder, meaning string }{
	{"after object key:value pair", "a comma or } is missing"},
	{"after object key", "a colon is missing after a name"},
	{"after array element", "a comma or ] is missing"},
	{"looking for beginning of object key string", "a name in double quotes is missing"},
	{"looking for beginning of value", "a value is missing, or a text has no double quotes"},
	{"in string literal", `a line end or another control character in a text must be escaped, such as \n`},
	{"in string escape code", `\ in a text must be followed by one of "\/bfnrtu`},
	{"hexadecimal character escape", `\u in a text must be followed by four hexadecimal digits`},
	{"numeric literal", "a number is not complete"},
	{"in literal", "only true, false, null and numbers have no double quotes"},
	{"after top-level value", "something comes after the object"},
	{"exceeded max depth", "it is nested too deeply"},
}

const endOfInput = "unexpected end of JSON input" // of encoding/json

// notJSON returns the refusal of a body that begins with { and is no JSON for
// that reason. It says what is wrong, where, and at which of the fields.
func notJSON(body []byte, reason error, fields []string) error {
	var syntax *json.SyntaxError
	if !errors.As(reason, &syntax) {
		return badRequest("the body is not JSON")
	}
	at, meaning := int(syntax.Offset)-1, ""
	if syntax.Error() == endOfInput {
		at, meaning = len(body), "it ends too early: "+endMeaning(body)
	} else {
		meaning = syntaxMeaning(body, at, syntax)
	}
	before := body[:at]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := 1 + utf8.RuneCount(before[1+bytes.LastIndexByte(before, '\n'):])
	return badRequest("the body is not JSON: %s (line %d, column %d%s)", meaning, line, column, nearField(body, fields))
}

// syntaxMeaning says what is wrong with the byte at that index.
func syntaxMeaning(body []byte, at int, syntax *json.SyntaxError) string {
	message := syntax.Error()
	if strings.Contains(message, " looking for ") || strings.Contains(message, " after ") {
		before := bytes.TrimRight(body[:at], " \t\r\n")
		switch r, _ := utf8.DecodeRune(body[at:]); {
		case strings.ContainsRune("'‘’“”„`", r):
			return "names and texts must be in double quotes (\"), not in others"
		case r == '/' || r == '#':
			return "there are no comments in JSON"
		case strings.ContainsRune("}]", r) && bytes.HasSuffix(before, []byte(",")):
			return fmt.Sprintf("the comma before %c is too much", r)
		}
	}
	for _, e := range syntaxErrors {
		if strings.Contains(message, e.decoder) {
			return e.meaning
		}
	}
	return "it can't be read"
}

// endMeaning says what is missing at the end of a body. The decoder knows, and
// says so of a character that may stand nowhere in JSON.
func endMeaning(body []byte) string {
	var syntax *json.SyntaxError
	if !errors.As(json.Unmarshal(append(bytes.Clone(body), 0), new(json.RawMessage)), &syntax) {
		return "something is missing"
	}
	if strings.Contains(syntax.Error(), "in string") || strings.Contains(syntax.Error(), "escape") {
		return "a text has no closing quote"
	}
	return syntaxMeaning(append(bytes.Clone(body), 0), len(body), syntax)
}

// nearField says at which field the JSON is wrong. It names no other text of the
// body: where JSON is wrong, a secret may be in the place of a name.
func nearField(body []byte, fields []string) string {
	d := json.NewDecoder(bytes.NewReader(body))
	d.Token() // {
	near := ""
	for d.More() {
		name, err := d.Token()
		if err != nil {
			break
		}
		known := slices.Contains(fields, fmt.Sprint(name))
		if err := d.Decode(new(json.RawMessage)); err != nil {
			if known {
				return fmt.Sprintf(", in the value of %s", name)
			}
			return ""
		}
		if near = ""; known {
			near = fmt.Sprintf(", after the value of %s", name)
		}
	}
	return near
}
