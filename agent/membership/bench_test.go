package membership_test

import (
	"fmt"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/rajsinghtech/tailgate/agent/membership"
)

// The largest node: 250 pods in 10 namespaces. Of 1,000 groups each selects one of 100
// namespaces and one of ten kinds of pods; one in ten selects pods of every namespace.
const (
	benchPods       = 250
	benchNamespaces = 10
	benchGroups     = 1000
)

func benchNamespace(n, version int) membership.Namespace {
	return membership.Namespace{Name: fmt.Sprint("ns", n), Labels: labels{"name": fmt.Sprint("ns", n), "version": fmt.Sprint(version)}}
}

func benchPod(n, version int) membership.Pod {
	return membership.Pod{
		UID: types.UID(fmt.Sprint("pod", n)), Namespace: fmt.Sprint("ns", n%benchNamespaces), Name: fmt.Sprint("pod", n),
		Labels: labels{"app": fmt.Sprint("app", n%10), "version": fmt.Sprint(version)},
	}
}

func benchGroup(n, young int) membership.Group {
	namespaces := labels{"name": fmt.Sprint("ns", n%100)}
	if n%10 == 0 {
		namespaces = nil
	}
	return group(fmt.Sprint("group", n), young, selector(namespaces, labels{"app": fmt.Sprint("app", n/100)}))
}

func full(b *testing.B) *membership.Model {
	b.Helper()
	m := membership.New(membership.Options{})
	for n := range benchGroups {
		if _, err := m.SetGroup(benchGroup(n, 1)); err != nil {
			b.Fatal(err)
		}
	}
	m.GroupsSynced()
	for n := range benchNamespaces {
		m.SetNamespace(benchNamespace(n, 0))
	}
	for n := range benchPods {
		m.SetPod(benchPod(n, 0))
	}
	if members := m.MembersOf("group0"); len(members) == 0 {
		b.Fatal("the first group has no members")
	}
	return m
}

func BenchmarkFill(b *testing.B) {
	for b.Loop() {
		full(b)
	}
}

func BenchmarkSetPod(b *testing.B) {
	m := full(b)
	b.Run("status", func(b *testing.B) {
		for b.Loop() {
			m.SetPod(benchPod(7, 0))
		}
	})
	b.Run("labels", func(b *testing.B) {
		for n := 1; b.Loop(); n++ {
			m.SetPod(benchPod(7, n))
		}
	})
}

func BenchmarkSetNamespace(b *testing.B) {
	m := full(b)
	for n := 1; b.Loop(); n++ {
		m.SetNamespace(benchNamespace(7, n))
	}
}

func BenchmarkSetGroup(b *testing.B) {
	m := full(b)
	for n := 1; b.Loop(); n++ {
		if _, err := m.SetGroup(benchGroup(0, 1+n%28)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMembersOf(b *testing.B) {
	m := full(b)
	for b.Loop() {
		m.MembersOf("group0")
	}
}
