//go:build linux

// Package metrics reads what a process says of itself to Prometheus.
// It promises never to take a page that could not be read for one that says nothing.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Set is what a process exports, at one moment, by name.
type Set map[string]*dto.MetricFamily

// Parse reads the text format.
func Parse(text io.Reader) (Set, error) {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(text)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	return families, nil
}

// Scrape reads the metrics at a URL.
func Scrape(ctx context.Context, c *http.Client, url string) (_ Set, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	// Else the client asks for compression, which the process would spend memory on.
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := c.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read metrics: %s says %s", url, resp.Status)
	}
	return Parse(resp.Body)
}

// Sum adds up the metrics of a name that have all these labels, given as name, value, name, value. Of a histogram
// it is the number of observations. What is not there is 0.
func (m Set) Sum(name string, labels ...string) (sum float64) {
	for _, metric := range m[name].GetMetric() {
		if !has(metric, labels) {
			continue
		}
		sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + metric.GetUntyped().GetValue() +
			float64(metric.GetHistogram().GetSampleCount())
	}
	return sum
}

func has(metric *dto.Metric, labels []string) bool {
	for i := 0; i+1 < len(labels); i += 2 {
		found := false
		for _, l := range metric.GetLabel() {
			found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
		}
		if !found {
			return false
		}
	}
	return true
}
