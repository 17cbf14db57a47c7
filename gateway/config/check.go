package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/tailscale/hujson"
	"tailscale.com/ipn"
)

// member is one key of the file and its value.
type member struct {
	field field
	line  int // of the key
	value hujson.Value
}

// checker holds a file while it is checked.
type checker struct {
	raw     []byte
	members []member
	// secrets are the values of AuthKey; no message may quote them.
	secrets []string
	parsed  ipn.ConfigVAlpha
}

// check returns what is wrong first in the file that raw is, or nil. The error
// lacks the path and the hash.
func check(raw []byte) *Error {
	object, err := parse(raw)
	if err != nil {
		return err
	}
	c := &checker{raw: raw}
	for _, step := range []func(*hujson.Object) *Error{c.collectSecrets, c.checkVersion, c.collect, c.decode, c.checkValues} {
		if err := step(object); err != nil {
			return err
		}
	}
	return nil
}

// parse returns the file's object.
func parse(raw []byte) (*hujson.Object, *Error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, &Error{Reason: Syntax, Msg: `is empty; write at least {"Version": "alpha0"}`}
	}
	if bytes.Count(raw, []byte("["))+bytes.Count(raw, []byte("{")) > maxBrackets {
		return nil, &Error{Reason: Syntax, Msg: fmt.Sprintf("has more than %d brackets; name the right file", maxBrackets)}
	}
	root, err := hujson.Parse(raw)
	if err != nil {
		return nil, syntaxError(raw, root, err)
	}
	object, ok := root.Value.(*hujson.Object)
	if !ok {
		return nil, &Error{
			Reason: Syntax, Line: lineAt(raw, root.StartOffset),
			Msg: fmt.Sprintf(`the file holds %s, not an object; write {"Version": "alpha0"} and the other keys in it`, kindOf(root)),
		}
	}
	return object, nil
}

// syntaxError puts the parser's error into words of ours: its own quote the input,
// which may be a key. root is as far as the parser came.
func syntaxError(raw []byte, root hujson.Value, err error) *Error {
	e := &Error{Reason: Syntax}
	// The position is in the text only; without it the sentence is still true.
	var column int
	_, _ = fmt.Sscanf(err.Error(), "hujson: line %d, column %d:", &e.Line, &column)
	switch {
	case root.EndOffset > 0: // set once the value is complete
		e.Line = lineAt(raw, root.EndOffset+len(root.AfterExtra))
		e.Msg = "there is more text after the end of the value; delete it"
	case errors.Is(err, io.ErrUnexpectedEOF), e.Line == lineAt(raw, len(raw)) && endsInWord(raw, column):
		e.Msg = "the file ends in the middle; it was cut off or lacks a closing quote, bracket or comment end: write it whole"
	default:
		e.Msg = "this is not JSON; look for a missing or surplus comma, quote or bracket, or an unquoted word"
	}
	return e
}

// endsInWord reports whether the last line of raw has, from column on, only the
// beginning of true, false, null or a number.
func endsInWord(raw []byte, column int) bool {
	last := raw[bytes.LastIndexByte(raw, '\n')+1:]
	if column < 1 || column > len(last) {
		return false
	}
	word := string(last[column-1:])
	for _, whole := range []string{"true", "false", "null"} {
		if strings.HasPrefix(whole, word) {
			return true
		}
	}
	return strings.Trim(word, "+-.0123456789eE") == ""
}

// collectSecrets comes first: any message after it may quote.
func (c *checker) collectSecrets(object *hujson.Object) *Error {
	for _, m := range object.Members {
		v, ok := m.Value.Value.(hujson.Literal)
		if !ok || !strings.EqualFold(nameOf(m), "AuthKey") {
			continue
		}
		if s := strings.TrimSpace(v.String()); s != "" && !strings.HasPrefix(s, filePrefix) {
			c.secrets = append(c.secrets, s)
		}
	}
	return nil
}

// checkVersion comes before the other keys: another version has others.
func (c *checker) checkVersion(object *hujson.Object) *Error {
	e := &Error{Reason: BadVersion, Msg: `has no Version; write "Version": "alpha0"`}
	for _, m := range object.Members {
		if !strings.EqualFold(nameOf(m), "Version") {
			continue
		}
		v, _ := m.Value.Value.(hujson.Literal)
		switch {
		case v.Kind() == 'n':
			continue
		case v.Kind() == '"' && v.String() == version:
			return nil
		}
		e.Line = lineAt(c.raw, m.Name.StartOffset)
		e.Msg = `Version takes "alpha0", not ` + kindOf(m.Value) + `; write "Version": "alpha0"`
		if v.Kind() == '"' {
			e.Msg = fmt.Sprintf(`Version %s is not known; write "Version": "alpha0"`, quote(v.String(), c.secrets))
		}
		return e
	}
	return e
}

// collect finds each key in the table.
func (c *checker) collect(object *hujson.Object) *Error {
	seen := map[string]int{} // field name to line
	for _, m := range object.Members {
		line := lineAt(c.raw, m.Name.StartOffset)
		f, ok := fieldNamed(nameOf(m))
		if !ok {
			return &Error{Reason: UnknownKey, Line: line, Msg: c.unknown(nameOf(m))}
		}
		if first, ok := seen[f.name]; ok {
			return &Error{Reason: Syntax, Line: line, Msg: fmt.Sprintf("%s is there twice, first in line %d; keep one", f.name, first)}
		}
		seen[f.name] = line
		c.members = append(c.members, member{field: f, line: line, value: m.Value})
	}
	return nil
}

func (c *checker) unknown(name string) string {
	near := nearest(name, fieldNames())
	if near == "" {
		return fmt.Sprintf("key %s is not known; remove it", quote(name, c.secrets))
	}
	return fmt.Sprintf("key %s is not known; write %s if that was meant, or remove it", quote(name, c.secrets), near)
}

// decode fills in c.parsed, key by key, to know which one is of the wrong type.
func (c *checker) decode(*hujson.Object) *Error {
	parsed := reflect.ValueOf(&c.parsed).Elem()
	for _, m := range c.members {
		target := parsed.FieldByName(m.field.goName)
		if decodes(m.value, target) {
			continue
		}
		list, isList := m.value.Value.(*hujson.Array)
		if isList && target.Kind() == reflect.Slice {
			return c.badElement(m, list, target.Type().Elem())
		}
		return &Error{Reason: InvalidValue, Line: m.line, Msg: fmt.Sprintf("%s takes %s, not %s; write %q: %s",
			m.field.name, m.field.takes, c.shape(m), m.field.name, m.field.example)}
	}
	return nil
}

// badElement names the element of a list that has the wrong type.
func (c *checker) badElement(m member, list *hujson.Array, elem reflect.Type) *Error {
	e := &Error{Reason: InvalidValue, Line: m.line, Msg: fmt.Sprintf("%s takes %s; write %q: %s",
		m.field.name, m.field.takes, m.field.name, m.field.example)}
	for _, v := range list.Elements {
		if decodes(v, reflect.New(elem).Elem()) {
			continue
		}
		e.Line = lineAt(c.raw, v.StartOffset)
		what := kindOf(v)
		if lit, ok := v.Value.(hujson.Literal); ok && lit.Kind() == '"' {
			what = quote(lit.String(), c.secrets)
		}
		e.Msg = fmt.Sprintf("%s takes %s, and %s is none; write %q: %s",
			m.field.name, m.field.takes, what, m.field.name, m.field.example)
		break
	}
	return e
}

// shape says what a value is, when it is not what its key takes.
func (c *checker) shape(m member) string {
	if k := m.value.Value.Kind(); k == '{' && strings.HasPrefix(m.field.takes, "an object") || k == '0' && strings.HasPrefix(m.field.takes, "a port") {
		return "this one"
	}
	return kindOf(m.value)
}

// checkValues asks each key's own check, in the order of the file.
func (c *checker) checkValues(*hujson.Object) *Error {
	for _, m := range c.members {
		if m.field.check == nil {
			continue
		}
		if reason, msg := m.field.check(c); msg != "" {
			return &Error{Reason: reason, Line: m.line, Msg: m.field.name + " " + msg}
		}
	}
	return nil
}

// decodes reports whether v can be decoded into target, and does it.
func decodes(v hujson.Value, target reflect.Value) bool {
	std := v.Clone()
	std.Standardize()
	d := json.NewDecoder(bytes.NewReader(std.Pack()))
	d.DisallowUnknownFields()
	return d.Decode(target.Addr().Interface()) == nil
}

// nameOf returns the key of m, unquoted.
func nameOf(m hujson.ObjectMember) string {
	name, _ := m.Name.Value.(hujson.Literal) // the parser lets nothing else through
	return name.String()
}

// kindOf names the type of a JSON value.
func kindOf(v hujson.Value) string {
	switch v.Value.Kind() {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case 't', 'f':
		return "true or false"
	}
	return "null"
}
