package controller

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
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

// recorder writes events (events.k8s.io/v1), one after the other. That of client-go keeps each of them whole for minutes in case
// it happens again, which comes to megabytes when all groups change; this one keeps what it takes to
// count. Nothing waits for an event: one that cannot be written is lost.
type recorder struct {
	client   client.Client
	log      logr.Logger
	instance string
	queue    chan *eventsv1.Event

	// told is what was written, by what makes two events the same one. Only Start uses it.
	told  map[[16]byte]telling
	swept time.Time
}

// telling is an event that was written.
type telling struct {
	name  string
	count int32
	last  time.Time
}

const (
	// recorderQueue is how many events can wait.
	recorderQueue = 1000
	// recorderMemory is how long after an event the same is no event of its own but counted.
	recorderMemory = 6 * time.Minute
	// maxNote is what the API takes as an event's text, in bytes.
	maxNote = 1024
)

func newRecorder(c client.Client, log logr.Logger) *recorder {
	host, _ := os.Hostname() // only people read it
	return &recorder{
		client: c, log: log, instance: fmt.Sprintf("%.128s", FieldManager+"-"+host),
		queue: make(chan *eventsv1.Event, recorderQueue), told: map[[16]byte]telling{},
	}
}

// record has an event written.
func (r *recorder) record(about corev1.ObjectReference, kind, reason, action, note string) {
	now := time.Now()
	namespace := about.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	e := &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: util.GenerateEventName(about.Name, now.UnixNano())},
		EventTime:  metav1.NewMicroTime(now), ReportingController: FieldManager, ReportingInstance: r.instance,
		Type: kind, Reason: reason, Action: action, Regarding: about, Note: limit(note, maxNote),
	}
	select {
	case r.queue <- e:
	default:
		r.lost(e, errors.New("too many events wait"))
	}
}

func (r *recorder) lost(e *eventsv1.Event, err error) {
	r.log.Info("an event is lost", "cause", err.Error(), "object", e.Regarding.Name, "reason", e.Reason, "note", e.Note)
}

// Start writes events until ctx ends, as a manager's runnable.
func (r *recorder) Start(ctx context.Context) error {
	for {
		select {
		case e := <-r.queue:
			if err := r.write(ctx, e); err != nil && ctx.Err() == nil {
				r.lost(e, err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// write writes an event, or counts it with one that is the same.
func (r *recorder) write(ctx context.Context, e *eventsv1.Event) error {
	r.sweep(e.EventTime.Time)
	key := sameness(e)
	if t, again := r.told[key]; again && e.EventTime.Sub(t.last) < recorderMemory {
		t.count, t.last = t.count+1, e.EventTime.Time
		err := r.patiently(ctx, func() error { return r.count(ctx, e.Namespace, t) })
		if !apierrors.IsNotFound(err) {
			r.told[key] = t
			return err
		}
		// Events do not last for ever.
	}
	err := r.patiently(ctx, func() error { return r.client.Create(ctx, e) })
	if apierrors.IsAlreadyExists(err) {
		err = nil // only the answer was lost
	}
	if err == nil {
		r.told[key] = telling{name: e.Name, count: 1, last: e.EventTime.Time}
	}
	return err
}

// count says how often an event happened and when it did last.
func (r *recorder) count(ctx context.Context, namespace string, t telling) error {
	patch, err := json.Marshal(map[string]any{"series": eventsv1.EventSeries{Count: t.count, LastObservedTime: metav1.NewMicroTime(t.last)}})
	if err != nil {
		return err
	}
	e := &eventsv1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: t.name}}
	return r.client.Patch(ctx, e, client.RawPatch(types.MergePatchType, patch))
}

// patiently does something again, for some seconds, while the API server does not answer.
func (r *recorder) patiently(ctx context.Context, do func() error) (err error) {
	backoff := wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.1, Steps: 6}
	_ = wait.ExponentialBackoffWithContext(ctx, backoff, func(context.Context) (bool, error) {
		err = do()
		var answer apierrors.APIStatus
		return err == nil || errors.As(err, &answer), nil
	}) // err says more
	return err
}

// sweep forgets what is too old to count, now and then.
func (r *recorder) sweep(now time.Time) {
	if now.Sub(r.swept) < recorderMemory/6 {
		return
	}
	r.swept = now
	maps.DeleteFunc(r.told, func(_ [16]byte, t telling) bool { return now.Sub(t.last) >= recorderMemory })
}

// sameness returns a hash of what makes two events the same one, which is all but their text.
func sameness(e *eventsv1.Event) [16]byte {
	sum := sha256.Sum256([]byte(strings.Join([]string{
		e.Regarding.Kind, e.Regarding.Namespace, e.Regarding.Name, string(e.Regarding.UID), e.Type, e.Reason, e.Action,
	}, "\x00")))
	return [16]byte(sum[:16])
}
