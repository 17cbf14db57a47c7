package debug

import (
	"encoding/json"
	"time"

	"github.com/rajsinghtech/tailgate/gateway/config"
)

// configView is the page /debug/config.
type configView struct {
	// Hash and Generation are of the configuration in force.
	Hash       string `json:"hash,omitempty"`
	Generation int    `json:"generation"`
	// LastReload is when new content was last found; Result is "applied" or a word for why not.
	InForce    bool      `json:"inForce"` // the file as it is now is
	LastReload time.Time `json:"lastReload,omitzero"`
	Result     string    `json:"result,omitempty"`
	// Error is why the file as it is now is not in force, AuthKeyError why there is no auth key.
	Error        string `json:"error,omitempty"`
	AuthKeyError string `json:"authKeyError,omitempty"`
	// LatencySeconds is from the file's change to its being in force.
	LatencySeconds float64               `json:"latencySeconds"`
	Errors         map[config.Reason]int `json:"errors"`
	// Config is in force, without secrets; null: none is.
	Config *config.Config `json:"config"`
	Text   string         `json:"-"` // Config as a page shows it
}

func (p *Pages) configView() configView {
	s, cfg := p.o.Node.ConfigStatus(), p.o.Node.Config()
	v := configView{
		Hash: s.Hash, Generation: s.Generation, InForce: s.Generation > 0 && s.Err == nil, LastReload: s.LastReload, Result: s.Result,
		LatencySeconds: s.Latency.Seconds(), Errors: s.Errors, Config: cfg,
	}
	if s.Err != nil {
		v.Error = s.Err.Error()
	}
	if s.AuthKeyErr != nil {
		v.AuthKeyError = s.AuthKeyErr.Error()
	}
	if cfg != nil {
		text, err := json.MarshalIndent(cfg, "", "  ")
		if err != nil {
			text = []byte(err.Error())
		}
		v.Text = string(text)
	}
	return v
}
