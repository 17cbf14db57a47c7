package cnirpc

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// The largest messages, in bytes with the end of their line. A request holds, at GC, some 100 bytes for each
// attachment of a node.
const (
	MaxRequest = 1 << 20
	MaxReply   = 64 << 10
)

// ErrTooLarge is returned for a message beyond [MaxRequest] or [MaxReply].
var ErrTooLarge = errors.New("message is too large")

// ErrMalformed is returned for a line that is no message.
var ErrMalformed = errors.New("message is malformed")

// WriteRequest writes q and sets its version.
func WriteRequest(w io.Writer, q Request) error {
	q.Version = Version
	return write(w, q, MaxRequest, "request")
}

// ReadRequest reads one request from r, which it may read beyond it. The error is [io.EOF] when r has ended before it,
// io.ErrUnexpectedEOF when in it, [ErrTooLarge], [ErrMalformed] or r's.
func ReadRequest(r io.Reader) (Request, error) {
	var q Request
	err := read(bounded(r, MaxRequest), &q, MaxRequest, "request")
	return q, err
}

// WriteReply writes a and sets its version.
func WriteReply(w io.Writer, a Reply) error {
	a.Version = Version
	return write(w, a, MaxReply, "reply")
}

// ReadReply reads one reply, as [ReadRequest] does a request.
func ReadReply(r io.Reader) (Reply, error) {
	return readReply(bounded(r, MaxReply))
}

// readReply reads the next reply of several.
func readReply(r *bufio.Reader) (Reply, error) {
	var a Reply
	err := read(r, &a, MaxReply, "reply")
	return a, err
}

// bounded reads no more from r than a message may have, and what it takes to see that one has more.
func bounded(r io.Reader, limit int) *bufio.Reader {
	return bufio.NewReader(io.LimitReader(r, int64(limit)+1))
}

func write(w io.Writer, message any, limit int, what string) error {
	line, err := json.Marshal(message) // which escapes line ends
	if err != nil {
		return fmt.Errorf("encode %s: %w", what, err)
	}
	line = append(line, '\n')
	if len(line) > limit {
		return fmt.Errorf("write %s of %d bytes, of which %d are allowed: %w", what, len(line), limit, ErrTooLarge)
	}
	if _, err := w.Write(line); err != nil {
		return fmt.Errorf("write %s: %w", what, err)
	}
	return nil
}

func read(r *bufio.Reader, message any, limit int, what string) error {
	line, err := r.ReadBytes('\n')
	switch {
	case len(line) > limit:
		return fmt.Errorf("read %s of more than %d bytes: %w", what, limit, ErrTooLarge)
	case errors.Is(err, io.EOF) && len(line) > 0:
		return fmt.Errorf("read %s: %w", what, io.ErrUnexpectedEOF)
	case err != nil:
		return fmt.Errorf("read %s: %w", what, err)
	}
	if err := json.Unmarshal(line, message); err != nil {
		return fmt.Errorf("read %s: %w: %w", what, ErrMalformed, err)
	}
	return nil
}
