package attachments

import "time"

// Look looks at everything, as Run does when anything may have changed.
func (s *Store) Look() {
	looks := s.readAll()
	s.change(func() { s.take(looks, true) })
}

// Voided returns for how many attachments claims are voided, as if it were d later.
func (s *Store) Voided(d time.Duration) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, t := range s.voided {
		s.voided[k] = t.Add(-d)
	}
	return len(s.voided)
}
