package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/agnivade/levenshtein"

	"orgservice/shared/org"
)

const maxBody = 64 << 10 // bytes

// validator is a request body that returns what is wrong with its fields.
type validator interface{ Validate() []org.FieldError }

// nothing is the body of a request or a response that has none.
type nothing struct{}

func (nothing) Validate() []org.FieldError { return nil }

// checkFields panics unless t is a struct that decode can read a request body
// into, and decode has an error message for each of its fields.
func checkFields(t reflect.Type) {
	if t.Kind() != reflect.Struct {
		panic(fmt.Sprintf("api: %v is not a struct", t))
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("json")
		switch {
		case name == "-":
		case !f.IsExported() || name == "" || strings.Contains(name, ","):
			panic(fmt.Sprintf("api: field %s of %v must be exported, with a json tag that is a name alone or \"-\"", f.Name, t))
		case f.Type != reflect.TypeFor[string]() && f.Type != reflect.TypeFor[*string]():
			panic(fmt.Sprintf("api: field %s of %v is of type %v: decode has an error message for string and *string only", f.Name, t, f.Type))
		}
	}
}

// fieldsOf returns the names of the fields of a request, and which of the fields
// of its struct they are.
func fieldsOf(t reflect.Type) (names []string, indexes map[string]int) {
	indexes = map[string]int{}
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("json"); name != "-" {
			names = append(names, name)
			indexes[name] = i
		}
	}
	return names, indexes
}

// decode reads the request body into v, a pointer to a struct that has passed
// checkFields. The body is one JSON object, or a form, whose members are fields of the
// struct, each at most once. Other fields of a form are ignored, as OAuth asks (RFC 6749,
// section 3.2): clients send some. Otherwise, if a field is unknown, given twice or of the wrong type, the
// error also says what v finds wrong with the others, so that the client sees all
// errors at once.
func decode(r *http.Request, v validator, form bool) error {
	if _, ok := v.(*nothing); ok {
		if _, err := io.ReadFull(r.Body, make([]byte, 1)); err == nil {
			return badRequest("this route takes no body")
		}
		return nil
	}
	target := reflect.ValueOf(v).Elem()
	names, indexes := fieldsOf(target.Type())
	members, err := readMembers(r, names, form)
	if err != nil {
		return err
	}
	given := map[string]bool{}
	var wrong fieldErrors
	strays := 0 // members that are unknown or given again
	for _, m := range members {
		i, known := indexes[m.name]
		switch {
		case known && given[m.name]:
			strays++
			wrong.add(m.name, "must be given once")
		case known:
			if !setString(target.Field(i), m.value) {
				wrong.add(m.name, "must be a string")
			}
		case form:
		default:
			if strays++; strays <= maxStrays {
				name := start(m.name)
				wrong.add(name, "is not a field of this request"+suggestion(name, names))
			}
		}
		given[m.name] = true
	}
	if wrong == nil {
		return nil // the service calls Validate
	}
	for _, f := range v.Validate() {
		wrong.add(f.Field, f.Message)
	}
	if strays > 0 {
		refused := badRequest("some fields are not known here or are given twice")
		if strays > maxStrays {
			refused = badRequest("%d fields are not known here or are given twice, of which these are the first", strays)
		}
		refused.err.Fields = wrong
		return refused
	}
	return invalidFields(wrong)
}

// invalidFields returns the error of a body whose fields are missing or not valid.
func invalidFields(wrong []org.FieldError) error {
	return &org.Error{Kind: org.Invalid, Reason: org.InvalidFields, Message: "some fields are missing or not valid", Fields: wrong}
}

// maxStrays is how many unknown fields or parameters an answer lists.
const maxStrays = 20

// setString sets a field, which is a string or a pointer to one, and reports
// whether the value is a string. If it is not, a pointer is not nil all the same,
// which tells Validate that the field is given.
func setString(field reflect.Value, value json.RawMessage) bool {
	if string(value) != "null" && json.Unmarshal(value, field.Addr().Interface()) == nil {
		return true
	}
	if field.Kind() == reflect.Pointer {
		field.Set(reflect.New(field.Type().Elem()))
	}
	return false
}

// fieldErrors has one error for each field.
type fieldErrors []org.FieldError

// add adds an error unless the field has one.
func (f *fieldErrors) add(field, message string) {
	if !slices.ContainsFunc(*f, func(e org.FieldError) bool { return e.Field == field }) {
		*f = append(*f, org.FieldError{Field: field, Message: message})
	}
}

// start returns the start of a name, which may be long.
func start(name string) string { return fmt.Sprintf("%.100s", name) }

// suggestion returns the end of a sentence that asks for the known name that was
// perhaps meant: it is written in another style, or has up to two typing errors.
// Otherwise it returns "".
func suggestion(name string, known []string) string {
	letters := func(s string) string { return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s)) }
	found, best := "", 3
	for _, k := range known {
		if d := levenshtein.ComputeDistance(letters(name), letters(k)); d < best {
			found, best = ": did you mean "+k+"?", d
		}
	}
	return found
}

// readMembers returns the members of the request body if it is small enough, is sent as
// JSON or a form, whichever is expected, and is UTF-8.
func readMembers(r *http.Request, fields []string, form bool) ([]member, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		return nil, refuse(http.StatusRequestEntityTooLarge, bodyTooLarge, "the body is larger than 64 KiB")
	}
	mediaType, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	expected := mediaType == jsonType || strings.HasPrefix(mediaType, "application/") && strings.HasSuffix(mediaType, "+json")
	if form {
		expected = mediaType == formType
	}
	if charset := params["charset"]; err != nil || !expected || charset != "" && !strings.EqualFold(charset, "utf-8") {
		kind, mediaType := "JSON", jsonType
		if form {
			kind, mediaType = "a form", formType
		}
		return nil, refuse(http.StatusUnsupportedMediaType, unsupportedMediaType, fmt.Sprintf("the body must be %s, sent with the header Content-Type: %s", kind, mediaType))
	}
	if form {
		return readForm(string(body))
	}
	if !utf8.Valid(body) {
		return nil, badRequest("the body is not UTF-8")
	}
	return readObject(body, fields)
}

const formType = "application/x-www-form-urlencoded"

// readForm returns the members of a form, whose values are JSON strings then.
func readForm(body string) ([]member, error) {
	values, err := url.ParseQuery(body)
	if err != nil {
		return nil, badRequest("the form can't be read")
	}
	var members []member
	for _, name := range slices.Sorted(maps.Keys(values)) {
		for _, value := range values[name] {
			if !utf8.ValidString(name + value) {
				return nil, badRequest("the body is not UTF-8")
			}
			encoded, err := json.Marshal(value)
			if err != nil {
				return nil, err
			}
			members = append(members, member{name, encoded})
		}
	}
	return members, nil
}

// member is a member of a JSON object or of a form.
type member struct {
	name  string
	value json.RawMessage
}

// readObject returns the members of a JSON object in order. json.Unmarshal would
// ignore the case of names, and take the last of two members that have the same
// name, although nobody knows which one the client meant. The error names no text
// of the body except the fields.
func readObject(body []byte, fields []string) ([]member, error) {
	switch trimmed := bytes.TrimSpace(body); {
	case len(trimmed) == 0:
		return nil, badRequest("the body is empty: a JSON object is expected")
	case bytes.HasPrefix(body, []byte("\ufeff")):
		return nil, badRequest("the body is not JSON: it begins with a byte order mark")
	case trimmed[0] != '{':
		return nil, badRequest("the body must be a JSON object: it must begin with {")
	}
	if err := json.Unmarshal(body, new(json.RawMessage)); err != nil {
		return nil, notJSON(body, err, fields)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	_, err := d.Token() // {
	var members []member
	for err == nil && d.More() {
		var name json.Token
		var value json.RawMessage
		if name, err = d.Token(); err == nil {
			err = d.Decode(&value)
		}
		members = append(members, member{fmt.Sprint(name), value})
	}
	return members, err
}
