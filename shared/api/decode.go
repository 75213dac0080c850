package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

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

// decode reads the request body: one JSON object, whose members are fields of
// T, each at most once. T has passed checkFields. If a field has the wrong type,
// the error also says what T finds wrong with the other fields, so that the
// client sees all errors at once.
func decode[T validator](r *http.Request) (T, error) {
	var v T
	if _, ok := any(v).(nothing); ok {
		if _, err := io.ReadFull(r.Body, make([]byte, 1)); err == nil {
			return v, badRequest("this route takes no body")
		}
		return v, nil
	}
	body, err := readJSON(r)
	if err != nil {
		return v, err
	}
	members, err := readObject(body)
	if err != nil {
		return v, err
	}
	var wrong []org.FieldError
	target := reflect.ValueOf(&v).Elem()
	for i := range target.NumField() {
		name := target.Type().Field(i).Tag.Get("json")
		raw, ok := members[name]
		if !ok || name == "-" {
			continue
		}
		delete(members, name)
		field := target.Field(i)
		if string(raw) == "null" || json.Unmarshal(raw, field.Addr().Interface()) != nil {
			if field.Kind() == reflect.Pointer {
				field.Set(reflect.New(field.Type().Elem())) // tells Validate that it is given
			}
			wrong = append(wrong, org.FieldError{Field: name, Message: "must be a string"})
		}
	}
	for name := range members {
		return v, badRequest("the body has a field %.100q that is not known here", name)
	}
	if wrong == nil {
		return v, nil // the service calls Validate
	}
	for _, f := range v.Validate() {
		if !slices.ContainsFunc(wrong, func(w org.FieldError) bool { return w.Field == f.Field }) {
			wrong = append(wrong, f)
		}
	}
	return v, &org.Error{Kind: org.Invalid, Reason: org.InvalidFields, Message: "some fields are missing or not valid", Fields: wrong}
}

// readJSON returns the request body if it is small enough, is sent as JSON and
// is UTF-8.
func readJSON(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		return nil, &requestError{http.StatusRequestEntityTooLarge, bodyTooLarge, "the body is larger than 64 KiB"}
	}
	mediaType, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	isJSON := mediaType == "application/json" || strings.HasPrefix(mediaType, "application/") && strings.HasSuffix(mediaType, "+json")
	if charset := params["charset"]; err != nil || !isJSON || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return nil, &requestError{http.StatusUnsupportedMediaType, unsupportedMediaType, "the body must be JSON, sent with the header Content-Type: application/json"}
	}
	if !utf8.Valid(body) {
		return nil, badRequest("the body is not UTF-8")
	}
	return body, nil
}

// readObject splits a JSON object into its members. json.Unmarshal would ignore
// the case of names, and take the last of two members that have the same name,
// although nobody knows which one the client meant.
func readObject(body []byte) (map[string]json.RawMessage, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, badRequest("the body is empty: a JSON object is expected")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	start, err := d.Token()
	if err != nil {
		return nil, notJSON(err)
	}
	if start != json.Delim('{') {
		return nil, badRequest("the body must be a JSON object")
	}
	members := map[string]json.RawMessage{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, notJSON(err)
		}
		name := token.(string) // the decoder returns nothing else here
		if _, doubled := members[name]; doubled {
			return nil, badRequest("the body has the field %.100q twice", name)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, notJSON(err)
		}
		members[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, notJSON(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, badRequest("the body must be one JSON object and nothing after it")
	}
	return members, nil
}

// notJSON returns the refusal of a body that the JSON decoder can't parse.
func notJSON(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return badRequest("the body is not JSON: error at byte %d", syntax.Offset)
	}
	return badRequest("the body is not JSON: it ends too early")
}
