package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
)

// span is a part of a text, in bytes from its start.
type span struct{ start, end int }

func (s span) of(text []byte) []byte { return text[s.start:s.end] }

// fields returns where the values of the JSON object in text at s are. A key that is there twice is an
// error: readers differ in which one they take.
func fields(text []byte, s span) (map[string]span, error) {
	all := map[string]span{}
	err := walk(text, s, '{', func(d *json.Decoder) error {
		key, err := d.Token()
		if err != nil {
			return err
		}
		name, ok := key.(string)
		if !ok {
			return fmt.Errorf("%v is no key", key)
		}
		if _, twice := all[name]; twice {
			return fmt.Errorf("the key %q is there twice", name)
		}
		all[name], err = next(d, s.start)
		return err
	})
	return all, err
}

// elements returns where the elements of the JSON array in text at s are.
func elements(text []byte, s span) ([]span, error) {
	var all []span
	err := walk(text, s, '[', func(d *json.Decoder) error {
		e, err := next(d, s.start)
		all = append(all, e)
		return err
	})
	return all, err
}

// walk calls each for every member of the object or array in text at s, which begins with open.
func walk(text []byte, s span, open json.Delim, each func(*json.Decoder) error) error {
	d := json.NewDecoder(bytes.NewReader(s.of(text)))
	first, err := d.Token()
	if err != nil {
		return err
	}
	if first != open {
		kind := "an object"
		if open == '[' {
			kind = "a list"
		}
		return fmt.Errorf("it is not %s", kind)
	}
	for d.More() {
		if err := each(d); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// next decodes the next value of d, which reads a text from its byte at on.
func next(d *json.Decoder, at int) (span, error) {
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return span{}, err
	}
	end := at + int(d.InputOffset())
	return span{start: end - len(raw), end: end}, nil
}

// root returns where in text its one JSON value is.
func root(text []byte) (span, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	s, err := next(d, 0)
	if err != nil {
		if e, ok := errors.AsType[*json.SyntaxError](err); ok {
			return span{}, fmt.Errorf("%w at byte %d", err, e.Offset)
		}
		return span{}, err
	}
	if len(bytes.TrimSpace(text[s.end:])) > 0 {
		return span{}, fmt.Errorf("there is more text after the end of the object, at byte %d", s.end)
	}
	return s, nil
}

// text returns the string that is in text at s; ok is false when it is of another type.
func stringAt(text []byte, s span) (value string, ok bool) {
	if err := json.Unmarshal(s.of(text), &value); err != nil || s.of(text)[0] != '"' {
		return "", false
	}
	return value, true
}

// sameJSON says whether two texts hold the same value, in whatever order of keys.
func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
