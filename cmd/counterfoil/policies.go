package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/google/uuid"

	"counterfoil/internal/access"
	"counterfoil/internal/config"
	"counterfoil/policy"
)

// How often the bundles are looked at, and how often a candidate's differences are said.
const (
	policyPoll   = 2 * time.Second
	shadowReport = time.Minute
)

// policies is the engine that decides, and where its bundle and a candidate for its place come from.
type policies struct {
	settings config.Policy
	logger   *slog.Logger
	engine   *policy.Engine

	bundle  watched
	current atomic.Pointer[policy.Signed] // what decides
	before  string                        // revision that decided before the last change
	refused error                         // of the bundle as it lies there; nil when it decides

	demanded bool   // two choose what decides, and what lies there decides no more
	unchosen string // digest of what was last found there and is not what was chosen

	unrecorded bool // what decides since the start does not stand in every log yet

	candidate watched
	shadow    *policy.Shadow
	reported  map[policy.Difference]uint64
}

// openPolicies makes the engine. Without a bundle, and while it is refused, the policy compiled in decides.
func openPolicies(ctx context.Context, c config.Policy, logger *slog.Logger) (*policies, error) {
	engine, err := policy.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("load policy: %w", err)
	}
	p := &policies{settings: c, logger: logger, engine: engine, before: engine.Revision(), bundle: watched{path: c.Bundle, keyFile: c.KeyFile}, candidate: watched{path: c.Candidate}}
	p.current.Store(&policy.Signed{Revision: engine.Revision()})
	if c.Bundle == "" {
		return p, nil
	}
	p.bundle.tried = p.bundle.digest()
	bundle, other, err := p.signed(ctx, c.Bundle)
	if p.refused = err; err != nil {
		logger.Error("the policy bundle is refused, and the one compiled in decides", "revision", engine.Revision(), "error", err)
		return p, nil
	}
	p.adopt(bundle, other)
	logger.Info("the policy bundle decides", "revision", engine.Revision())
	return p, nil
}

// signed loads a bundle as it lies there now.
func (p *policies) signed(ctx context.Context, path string) (policy.Signed, *policy.Engine, error) {
	key, err := os.ReadFile(p.settings.KeyFile)
	if err != nil {
		return policy.Signed{}, nil, errors.New("the key that verifies the policy cannot be read")
	}
	return policy.Pack(ctx, path, key)
}

// adopt lets a policy decide from now on.
func (p *policies) adopt(bundle policy.Signed, other *policy.Engine) {
	p.engine.Adopt(other)
	p.current.Store(&bundle)
}

// proposed gives what lies where a bundle or a candidate is looked for, is signed, and does not decide.
func (p *policies) proposed(ctx context.Context) (all []policy.Signed) {
	for _, path := range []string{p.settings.Candidate, p.settings.Bundle} {
		if path == "" || p.settings.KeyFile == "" {
			continue
		}
		bundle, _, err := p.signed(ctx, path)
		if err == nil && bundle.Digest != p.current.Load().Digest && !slices.ContainsFunc(all, func(b policy.Signed) bool { return b.Digest == bundle.Digest }) {
			all = append(all, bundle)
		}
	}
	return all
}

// chosen loads the policy that was chosen.
func (h *heart) chosen(ctx context.Context, all map[uuid.UUID][]access.Choice, c access.Choice) (policy.Signed, *policy.Engine, error) {
	if c.Digest == "" {
		engine, err := policy.New(ctx)
		return policy.Signed{Revision: engine.Revision()}, engine, err
	}
	for organisation, choices := range all {
		if !slices.ContainsFunc(choices, func(o access.Choice) bool { return o.Digest == c.Digest }) {
			continue
		}
		packed, err := h.gate.KeptBundle(ctx, organisation, c.Digest)
		if err != nil {
			return policy.Signed{}, nil, fmt.Errorf("the policy of revision %s, which was chosen, is not there: %w", c.Revision, err)
		}
		engine, err := policy.AdmitKept(ctx, packed)
		return policy.Signed{Packed: packed, Digest: c.Digest, Revision: engine.Revision()}, engine, err
	}
	return policy.Signed{}, nil, access.ErrUnknown
}

// startPolicy lets the policy decide that was chosen, if two have to choose it. If it cannot be had, nothing starts: no other may decide in its place.
func (h *heart) startPolicy(ctx context.Context) error {
	p := h.policies
	all, err := h.gate.Choices(ctx)
	if err != nil {
		return err
	}
	for _, choices := range all {
		p.demanded = p.demanded || access.Demanded(choices)
	}
	if !p.demanded {
		return nil
	}
	c, ok := access.Chosen(all)
	if !ok {
		return errors.New("the organisations that demand to choose the policy agree on none")
	}
	if c.Digest == p.current.Load().Digest {
		return nil
	}
	bundle, engine, err := h.chosen(ctx, all, c)
	if err != nil {
		return err
	}
	p.adopt(bundle, engine)
	p.logger.Info("the policy that was chosen decides", "revision", p.engine.Revision())
	return nil
}

// followChoice lets a policy decide that was chosen meanwhile, on this node or another, once that is on record.
func (h *heart) followChoice(ctx context.Context) error {
	p := h.policies
	all, err := h.gate.Choices(ctx)
	if err != nil {
		return err
	}
	before := p.demanded
	p.demanded = false
	for _, choices := range all {
		p.demanded = p.demanded || access.Demanded(choices)
	}
	if before && !p.demanded { // what the host has decides again
		p.bundle.tried, p.unchosen = "", ""
		if p.settings.Bundle == "" && p.current.Load().Digest != "" {
			engine, err := policy.New(ctx)
			if err != nil {
				return err
			}
			return h.decidesFromNow(ctx, policy.Signed{Revision: engine.Revision()}, engine)
		}
	}
	c, ok := access.Chosen(all)
	if !ok || c.Digest == p.current.Load().Digest {
		return nil
	}
	bundle, engine, err := h.chosen(ctx, all, c)
	if err != nil {
		return err
	}
	return h.decidesFromNow(ctx, bundle, engine)
}

// decidesFromNow lets a policy decide once that is on record.
func (h *heart) decidesFromNow(ctx context.Context, bundle policy.Signed, engine *policy.Engine) error {
	p := h.policies
	p.before = p.engine.Revision()
	err := h.recordChange(ctx, access.PolicyActivated, map[string]string{"revision": bundle.Revision, "before": p.before, "digest": bundle.Digest})
	if err != nil {
		return err
	}
	p.adopt(bundle, engine)
	p.logger.InfoContext(ctx, "another policy decides", "revision", bundle.Revision, "before", p.before)
	return nil
}

// watched is a bundle that may change under a running service.
type watched struct {
	path, keyFile string
	seen, tried   string // digests of what lay there at the last look, and of what was last loaded
}

// changed reports whether something else lies there than was last tried. It must have lain there for two looks, so that
// nothing is loaded while it is being written.
func (w *watched) changed() bool {
	now := w.digest()
	still := now == w.seen
	w.seen = now
	if !still || now == w.tried {
		return false
	}
	w.tried = now
	return true
}

// Bounds on what is looked at; what has more is refused anyway.
const (
	maxWatchedBytes = 32 << 20 // of each file
	maxWatchedFiles = 1024
)

// digest is of the names and contents of all files, and of the key. What cannot be read has a digest too.
func (w *watched) digest() string {
	sum := sha256.New()
	files := 0
	add := func(path string, _ fs.DirEntry, err error) error {
		if files++; files > maxWatchedFiles {
			return fs.SkipAll
		}
		fmt.Fprintf(sum, "%q %v\n", path, err)
		if err != nil {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			fmt.Fprintln(sum, err)
			return nil
		}
		defer f.Close()
		_, err = io.Copy(sum, io.LimitReader(f, maxWatchedBytes))
		fmt.Fprintln(sum, "\n", err)
		return nil
	}
	_ = filepath.WalkDir(w.path, add) // add keeps errors in the digest
	if w.keyFile != "" {
		_ = add(w.keyFile, nil, nil)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// recordPolicy writes into every organisation's log which policy decides from now on, or that one was refused. Without a
// bundle there is nothing to write: each record names the revision that decided.
func (h *heart) recordPolicy(ctx context.Context) error {
	p := h.policies
	if p.settings.Bundle == "" && !p.demanded {
		return nil
	}
	var err error
	if p.refused != nil {
		err = h.recordRefusal(ctx, p.refused)
	} else {
		err = h.recordChange(ctx, access.PolicyActivated, map[string]string{"revision": p.engine.Revision(), "before": p.before, "digest": p.current.Load().Digest})
	}
	p.unrecorded = err != nil
	return err
}

func (h *heart) recordRefusal(ctx context.Context, refused error) error {
	return h.recordChange(ctx, access.PolicyRefused, map[string]string{"revision": h.policies.engine.Revision(), "reason": oneLine(refused.Error()), "digest": h.policies.bundle.tried})
}

func (h *heart) recordChange(ctx context.Context, action string, facts map[string]string) error {
	all, err := h.store.Organisations(ctx)
	if err != nil {
		return err
	}
	for _, o := range all {
		if err := h.gate.PolicyChanged(ctx, o.ID, action, facts); err != nil {
			return fmt.Errorf("record the change of policy for organisation %s: %w", o.ID, err)
		}
	}
	return nil
}

// oneLine makes a text fit to stand in a record.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "?"), func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }), " ")
	for len(s) > 500 {
		runes := []rune(s)
		s = string(runes[:len(runes)-1-(len(s)-500)/4])
	}
	return s
}

// watchPolicies takes over policies as they are chosen and bundles as they change, and lets a candidate be asked beside.
func (h *heart) watchPolicies(ctx context.Context) {
	p := h.policies
	stop := func() {}
	if p.settings.Candidate != "" {
		p.candidate.tried = p.candidate.digest()
		stop = p.putBeside(ctx)
	}
	defer func() { stop() }()
	looks, reports := time.NewTicker(policyPoll), time.NewTicker(shadowReport)
	defer looks.Stop()
	defer reports.Stop()
	for {
		select {
		case <-ctx.Done():
			p.report(ctx)
			return
		case <-reports.C:
			p.report(ctx)
		case <-looks.C:
			if p.unrecorded {
				_ = h.recordPolicy(ctx) // until it is
			}
			if err := h.followChoice(ctx); err != nil && ctx.Err() == nil {
				p.logger.WarnContext(ctx, "the policy that decides stays, whatever was chosen", "revision", p.engine.Revision(), "error", err)
			}
			if p.settings.Bundle != "" && p.bundle.changed() {
				h.takeOver(ctx)
			}
			if p.settings.Candidate != "" && p.candidate.changed() {
				p.report(ctx)
				stop()
				stop = p.putBeside(ctx)
			}
		}
	}
}

// takeOver lets a changed bundle decide, once that is on record. Otherwise the one before stays. Where two have to choose, it only waits for them.
func (h *heart) takeOver(ctx context.Context) {
	p := h.policies
	bundle, other, err := p.signed(ctx, p.settings.Bundle)
	if err != nil {
		p.logger.ErrorContext(ctx, "the policy bundle is refused, and the one before stays", "revision", p.engine.Revision(), "error", err)
		if err := h.recordRefusal(ctx, err); err != nil {
			p.bundle.tried = "" // look again
			p.logger.ErrorContext(ctx, "the refusal of a policy bundle is not recorded", "error", err)
			return
		}
		p.refused = err
		return
	}
	if p.demanded {
		if bundle.Digest == p.current.Load().Digest || bundle.Digest == p.unchosen {
			return
		}
		p.logger.WarnContext(ctx, "the policy bundle waits until two administrators activate it", "bundle", bundle.Revision, "revision", p.engine.Revision())
		if err := h.recordChange(ctx, access.PolicyProposed, map[string]string{"revision": bundle.Revision, "digest": bundle.Digest}); err != nil {
			p.bundle.tried = "" // look again
			p.logger.ErrorContext(ctx, "the coming of a policy bundle is not recorded", "error", err)
			return
		}
		p.unchosen = bundle.Digest
		return
	}
	if err := h.decidesFromNow(ctx, bundle, other); err != nil {
		p.bundle.tried = "" // look again
		p.logger.ErrorContext(ctx, "the policy bundle waits until its coming can be recorded", "error", err)
		return
	}
	p.refused = nil
}

// putBeside lets the candidate be asked, and gives what ends that.
func (p *policies) putBeside(ctx context.Context) (stop func()) {
	candidate, err := admit(ctx, p.settings.Candidate, nil)
	if err != nil {
		p.logger.ErrorContext(ctx, "the candidate policy is refused, and is not asked", "error", err)
		p.engine.Alone()
		p.shadow = nil
		return func() {}
	}
	shadow := p.engine.Beside(candidate)
	p.shadow, p.reported = shadow, make(map[policy.Difference]uint64)
	p.logger.InfoContext(ctx, "the candidate policy is asked beside", "revision", candidate.Revision())
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		shadow.Run(ctx)
	}()
	return func() { cancel(); <-done }
}

// report says where the candidate decides otherwise, if something came to it since the last time.
func (p *policies) report(ctx context.Context) {
	if p.shadow == nil {
		return
	}
	r := p.shadow.Report()
	for _, d := range r.Differences {
		if p.reported[d.Difference] == d.Count {
			continue
		}
		p.reported[d.Difference] = d.Count
		p.logger.WarnContext(ctx, "the candidate policy decides otherwise", "candidate", r.Revision, "purpose", d.Purpose, "now", d.Now, "then", d.Candidate,
			"count", d.Count, "asked", r.Asked, "dropped", r.Dropped)
	}
}
