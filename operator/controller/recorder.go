package controller

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/record/util"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// recorder writes events (events.k8s.io/v1). That of client-go keeps each of them whole for minutes in case it happens again, which
// comes to megabytes when all groups change; this one keeps what it takes to count. Nothing waits for
// an event: one that cannot be written is lost.
type recorder struct {
	log     logr.Logger
	writers [eventWriters]*eventWriter
}

// eventWriter writes some of the events, one after the other. What may be the same is one writer's.
type eventWriter struct {
	client   client.Client
	instance string
	waiting  chan *occurrence

	told  map[[16]byte]telling
	swept time.Time
}

// occurrence is something that happened to an object.
type occurrence struct {
	about                      corev1.ObjectReference
	kind, reason, action, note string
	at                         time.Time
}

// telling is an event that was written.
type telling struct {
	name  string
	count int32
	last  time.Time
}

const (
	// eventWriters write as fast as as many workers change what there is to tell of.
	eventWriters = 4
	// eventsWaiting is how many can wait for each of them: together, a few for each of a thousand groups.
	eventsWaiting = 1000
	// eventMemory is how long after an event the same is no event of its own but counted.
	eventMemory = 6 * time.Minute
	// maxNote is what the API takes as an event's text, in bytes.
	maxNote = 1024
)

func newRecorder(c client.Client, log logr.Logger) *recorder {
	host, _ := os.Hostname() // only people read it
	r := &recorder{log: log}
	for i := range r.writers {
		r.writers[i] = &eventWriter{
			client: c, instance: fmt.Sprintf("%.128s", FieldManager+"-"+host),
			waiting: make(chan *occurrence, eventsWaiting), told: map[[16]byte]telling{},
		}
	}
	return r
}

// record has an event written.
func (r *recorder) record(about corev1.ObjectReference, kind, reason, action, note string) {
	o := &occurrence{about: about, kind: kind, reason: reason, action: action, note: limit(note, maxNote), at: time.Now()}
	select {
	case r.writers[o.sameness()[0]%eventWriters].waiting <- o:
	default:
		r.lost(o, errors.New("too many events wait"))
	}
}

func (r *recorder) lost(o *occurrence, err error) {
	r.log.Info("an event is lost", "cause", err.Error(), "object", o.about.Name, "reason", o.reason, "note", o.note)
}

// Start writes events until ctx ends, as a manager's runnable.
func (r *recorder) Start(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, w := range r.writers {
		wg.Go(func() {
			for {
				select {
				case o := <-w.waiting:
					if err := w.write(ctx, o); err != nil && ctx.Err() == nil {
						r.lost(o, err)
					}
				case <-ctx.Done():
					return
				}
			}
		})
	}
	wg.Wait()
	return nil
}

// write writes an event, or counts it with one that is the same.
func (w *eventWriter) write(ctx context.Context, o *occurrence) error {
	w.sweep(o.at)
	key := o.sameness()
	if t, again := w.told[key]; again && o.at.Sub(t.last) < eventMemory {
		t.count, t.last = t.count+1, o.at
		err := patiently(ctx, func() error { return w.count(ctx, o.namespace(), t) })
		if !apierrors.IsNotFound(err) {
			w.told[key] = t
			return err
		}
		// Events do not last for ever.
	}
	e := w.event(o)
	err := patiently(ctx, func() error { return w.client.Create(ctx, e) })
	if apierrors.IsAlreadyExists(err) {
		err = nil // only the answer was lost
	}
	if err == nil {
		w.told[key] = telling{name: e.Name, count: 1, last: o.at}
	}
	return err
}

func (w *eventWriter) event(o *occurrence) *eventsv1.Event {
	return &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace(), Name: util.GenerateEventName(o.about.Name, o.at.UnixNano())},
		EventTime:  metav1.NewMicroTime(o.at), ReportingController: FieldManager, ReportingInstance: w.instance,
		Type: o.kind, Reason: o.reason, Action: o.action, Regarding: o.about, Note: o.note,
	}
}

// count says how often an event happened and when it did last.
func (w *eventWriter) count(ctx context.Context, namespace string, t telling) error {
	patch, err := json.Marshal(map[string]any{"series": eventsv1.EventSeries{Count: t.count, LastObservedTime: metav1.NewMicroTime(t.last)}})
	if err != nil {
		return err
	}
	e := &eventsv1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: t.name}}
	return w.client.Patch(ctx, e, client.RawPatch(types.MergePatchType, patch))
}

// sweep forgets what is too old to count, now and then.
func (w *eventWriter) sweep(now time.Time) {
	if now.Sub(w.swept) < eventMemory/6 {
		return
	}
	w.swept = now
	maps.DeleteFunc(w.told, func(_ [16]byte, t telling) bool { return now.Sub(t.last) >= eventMemory })
}

// patiently does something again, for some seconds, while the API server does not answer.
func patiently(ctx context.Context, do func() error) (err error) {
	backoff := wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.1, Steps: 6}
	_ = wait.ExponentialBackoffWithContext(ctx, backoff, func(context.Context) (bool, error) {
		err = do()
		var answer apierrors.APIStatus
		return err == nil || errors.As(err, &answer), nil
	}) // err says more
	return err
}

// namespace returns the event's own: events about what is in no namespace are in default.
func (o *occurrence) namespace() string { return cmp.Or(o.about.Namespace, metav1.NamespaceDefault) }

// sameness returns a hash of what makes two events the same one, which is all but their text.
func (o *occurrence) sameness() [16]byte {
	sum := sha256.Sum256([]byte(strings.Join([]string{
		o.about.Kind, o.about.Namespace, o.about.Name, string(o.about.UID), o.kind, o.reason, o.action,
	}, "\x00")))
	return [16]byte(sum[:16])
}
