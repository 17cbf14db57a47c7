package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// eventServer takes down what is written, and answers with the next of its errors.
type eventServer struct {
	client.Client
	wrote  []string
	errors []error
}

func (s *eventServer) answer(what string) error {
	s.wrote = append(s.wrote, what)
	if len(s.errors) == 0 {
		return nil
	}
	err := s.errors[0]
	s.errors = s.errors[1:]
	return err
}

func (s *eventServer) Create(_ context.Context, o client.Object, _ ...client.CreateOption) error {
	e := o.(*eventsv1.Event)
	return s.answer(fmt.Sprintf("create %s/%s %s %s", e.Namespace, e.Regarding.Name, e.Reason, e.Note))
}

func (s *eventServer) Patch(_ context.Context, o client.Object, p client.Patch, _ ...client.PatchOption) error {
	text, err := p.Data(o)
	if err != nil {
		return err
	}
	count, _, _ := strings.Cut(string(text), ",")
	return s.answer("patch " + count)
}

// TestRecorder writes events at some minutes.
func TestRecorder(t *testing.T) {
	gone := apierrors.NewNotFound(schema.GroupResource{Resource: "events"}, "e")
	there := apierrors.NewAlreadyExists(schema.GroupResource{Resource: "events"}, "e")
	refused := apierrors.NewForbidden(schema.GroupResource{Resource: "events"}, "e", nil)
	type happens struct {
		minute       int
		reason, note string
	}
	for name, tt := range map[string]struct {
		events []happens
		errors []error
		want   []string
		err    error // of the last one
	}{
		"the same is counted, whatever its text": {
			events: []happens{{0, "A", "x"}, {1, "A", "y"}, {5, "A", "x"}},
			want:   []string{"create default/payments A x", `patch {"series":{"count":2`, `patch {"series":{"count":3`},
		},
		"what differs is not": {
			events: []happens{{0, "A", "x"}, {1, "B", "x"}},
			want:   []string{"create default/payments A x", "create default/payments B x"},
		},
		"nor is what happens much later": {
			events: []happens{{0, "A", "x"}, {6, "A", "x"}, {7, "A", "x"}},
			want:   []string{"create default/payments A x", "create default/payments A x", `patch {"series":{"count":2`},
		},
		"an event that somebody deleted": {
			events: []happens{{0, "A", "x"}, {1, "A", "y"}, {2, "A", "z"}},
			errors: []error{nil, gone},
			want:   []string{"create default/payments A x", `patch {"series":{"count":2`, "create default/payments A y", `patch {"series":{"count":2`},
		},
		"no answer": {
			events: []happens{{0, "A", "x"}},
			errors: []error{errors.New("connection refused")},
			want:   []string{"create default/payments A x", "create default/payments A x"},
		},
		"an answer was lost": {
			events: []happens{{0, "A", "x"}, {1, "A", "x"}},
			errors: []error{errors.New("connection reset"), there},
			want:   []string{"create default/payments A x", "create default/payments A x", `patch {"series":{"count":2`},
		},
		"the server refuses": {
			events: []happens{{0, "A", "x"}},
			errors: []error{refused},
			want:   []string{"create default/payments A x"},
			err:    refused,
		},
	} {
		s := &eventServer{errors: tt.errors}
		r := newRecorder(s, logr.Discard())
		var err error
		for _, h := range tt.events {
			r.record(corev1.ObjectReference{Kind: "EgressGroup", Name: "payments"}, "Normal", h.reason, "Report", h.note)
			w, o := next(r)
			o.at = noon.Add(time.Duration(h.minute) * time.Minute)
			err = w.write(t.Context(), o)
		}
		if diff := cmp.Diff(tt.want, s.wrote); diff != "" || !errors.Is(err, tt.err) {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
}

// next takes what waits.
func next(r *recorder) (*eventWriter, *occurrence) {
	for _, w := range r.writers {
		select {
		case o := <-w.waiting:
			return w, o
		default:
		}
	}
	return nil, nil
}

// TestRecorderForgets: what is remembered does not grow, and what is recorded while nobody writes neither.
func TestRecorderForgets(t *testing.T) {
	r := newRecorder(&eventServer{}, logr.Discard())
	for i := range 100 * eventWriters {
		r.record(corev1.ObjectReference{Name: fmt.Sprintf("group-%d", i)}, "Normal", "A", "Report", "x")
		w, o := next(r)
		o.at = noon.Add(time.Duration(i) * time.Minute)
		if err := w.write(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	told := 0
	for _, w := range r.writers {
		told += len(w.told)
	}
	if told < 6 || told > 10*eventWriters {
		t.Errorf("%d events are remembered, of which six minutes have six", told)
	}
	for range 2 * eventsWaiting {
		r.record(corev1.ObjectReference{Name: "a"}, "Normal", "A", "Report", "x")
	}
	waiting := 0
	for _, w := range r.writers {
		waiting += len(w.waiting)
	}
	if waiting != eventsWaiting {
		t.Errorf("%d events wait", waiting)
	}
}

// TestRecorderSpreads: many events are written by all writers, and the same by the same.
func TestRecorderSpreads(t *testing.T) {
	r := newRecorder(&eventServer{}, logr.Discard())
	for i := range 500 {
		for range 2 {
			r.record(corev1.ObjectReference{Name: fmt.Sprintf("group-%d", i)}, "Normal", "A", "Report", "x")
		}
	}
	for i, w := range r.writers {
		if n := len(w.waiting); n < 100 || n%2 != 0 {
			t.Errorf("writer %d has %d events", i, n)
		}
	}
}

// TestEventIsValid for whatever it is about.
func TestEventIsValid(t *testing.T) {
	r := newRecorder(&eventServer{}, logr.Discard())
	r.record(corev1.ObjectReference{Namespace: "ns", Name: strings.Repeat("long-name.", 25) + "end"}, "Normal", "A", "Report", strings.Repeat("ä", 3000))
	w, o := next(r)
	e := w.event(o)
	if wrong := validation.NameIsDNSSubdomain(e.Name, false); len(wrong) > 0 || e.Namespace != "ns" {
		t.Errorf("%s/%s: %v", e.Namespace, e.Name, wrong)
	}
	if len(e.Note) > maxNote || len(e.Note) < maxNote-10 || len(e.ReportingInstance) > 128 {
		t.Errorf("the note has %d bytes, the instance is %s", len(e.Note), e.ReportingInstance)
	}
}
