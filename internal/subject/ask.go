package subject

import (
	"context"
	"errors"
	"slices"

	"github.com/google/uuid"

	"counterfoil/internal/access"
	"counterfoil/internal/principal"
)

// Lift is what a person asks who wants what he restricted to be used again.
const Lift = "lift"

// Ask takes what a person asks about his own data, where he is known to be himself by identification. What is his alone to decide is done
// at once: a restriction begins, and ends when he lifts it; so does that which goes with an objection, until that is answered.
func (d Desk) Ask(ctx context.Context, who principal.Principal, p Person, kind, source, identification, language string) error {
	if kind == Lift {
		return d.lift(ctx, who, p)
	}
	if kind == access.AsksRestriction {
		if done, err := d.restrictedAsAsked(ctx, p); done || err != nil {
			return err
		}
	}
	id, err := d.Gate.OpenRequest(ctx, who, access.NewRequest{Kind: kind, SubjectKind: p.Kind, Subject: p.ID, Source: source, Identification: identification, Language: language})
	if err != nil || kind != access.AsksRestriction && kind != access.AsksObjection {
		return err
	}
	r, _, err := d.Gate.Request(ctx, p.Organisation, id)
	if err != nil {
		return err
	}
	if err := d.Restrict(ctx, who, r, true, access.Justification{}); err != nil || kind == access.AsksObjection {
		return err
	}
	return d.Gate.StepRequest(ctx, who, r, access.Answered, "", access.Justification{})
}

// restrictedAsAsked tells that a restriction is in force for which the person asked: asking again changes nothing.
func (d Desk) restrictedAsAsked(ctx context.Context, p Person) (bool, error) {
	if on, err := d.Gate.Restricted(ctx, p.Organisation, p.ID); err != nil || !on {
		return false, err
	}
	before, err := d.Gate.Requests(ctx, p.Organisation, p.ID, asked)
	return slices.ContainsFunc(before, func(r access.Request) bool { return r.Kind == access.AsksRestriction && r.State == access.Answered }), err
}

// Restrict restricts what is done with the data of who made a request, or lifts that, and notes it with the request.
func (d Desk) Restrict(ctx context.Context, who principal.Principal, r access.Request, on bool, why access.Justification) error {
	step := access.Lifts
	if on {
		step = access.Restricts
	}
	if err := d.Gate.Restrict(ctx, who, who.Organisation(), r.SubjectKind, r.SubjectID, on, map[string]string{access.FactRequest: r.ID.String()}); err != nil {
		return err
	}
	return d.Gate.StepRequest(ctx, who, r, step, "", why)
}

// lift ends a restriction at the wish of who is restricted. With it he takes back what he objected to.
func (d Desk) lift(ctx context.Context, who principal.Principal, p Person) error {
	if err := d.Gate.Restrict(ctx, who, p.Organisation, p.Kind, p.ID, false, nil); err != nil {
		return err
	}
	before, err := d.Gate.Requests(ctx, p.Organisation, p.ID, asked)
	if err != nil {
		return err
	}
	for _, r := range before {
		if r.Open() && (r.Kind == access.AsksObjection || r.Kind == access.AsksRestriction) {
			if err := d.Gate.StepRequest(ctx, who, r, access.TakenBack, "", access.Justification{}); err != nil && !errors.Is(err, access.ErrSettled) {
				return err
			}
		}
	}
	return nil
}

// Correct keeps what a person says of himself in place of what was kept, and notes that he asked for it. answered tells that he asks for no more.
func (d Desk) Correct(ctx context.Context, who principal.Principal, c access.Collector, scene access.Scene, p Person, row uuid.UUID, source, identification, language string, answered bool, fields ...access.Field) error {
	id, err := d.Gate.OpenRequest(ctx, who, access.NewRequest{Kind: access.AsksRectification, SubjectKind: p.Kind, Subject: p.ID, Source: source, Identification: identification, Language: language})
	if err != nil {
		return err
	}
	r, _, err := d.Gate.Request(ctx, p.Organisation, id)
	if err != nil {
		return err
	}
	if err := d.Gate.Correct(ctx, c, who, scene, p.ID, row, access.Grounds{}, fields...); err != nil {
		return err
	}
	err = d.Gate.StepRequest(ctx, who, r, access.Corrected, "", access.Justification{})
	if err == nil && answered {
		err = d.Gate.StepRequest(ctx, who, r, access.Answered, "", access.Justification{})
	}
	return err
}

// Delivered notes that a person was given his file: what he asked for is answered.
func (d Desk) Delivered(ctx context.Context, who principal.Principal, p Person) error {
	before, err := d.Gate.Requests(ctx, p.Organisation, p.ID, asked)
	if err != nil {
		return err
	}
	for _, r := range before {
		if !r.Open() || r.Kind != access.AsksAccess && r.Kind != access.AsksPortability {
			continue
		}
		for _, step := range []string{access.FileMade, access.Answered} {
			if err := d.Gate.StepRequest(ctx, who, r, step, "", access.Justification{}); err != nil && !errors.Is(err, access.ErrSettled) {
				return err
			}
		}
	}
	return nil
}

// asked is how many requests of one person are shown.
const asked = 50

// Asked lists what a person asked, what is open first.
func (d Desk) Asked(ctx context.Context, p Person) ([]Asked, error) {
	all, err := d.Gate.Requests(ctx, p.Organisation, p.ID, asked)
	if err != nil {
		return nil, err
	}
	out := make([]Asked, len(all))
	for i, r := range all {
		out[i] = Asked{r.Kind, r.State, r.Received.UTC(), r.Due.UTC()}
	}
	return out, nil
}

// Begin makes the file of a person without what only an edge may reveal: his values, and the messages.
func (d Desk) Begin(ctx context.Context, p Person, organisation string) (f File, err error) {
	f = File{Organisation: organisation, Person: p, Shown: d.Shown(ctx, p)}
	if f.Ref, err = d.Gate.Reference(ctx, p.Organisation, p.ID); err != nil {
		return f, err
	}
	f.Handle = handle(p.Kind, f.Ref)
	if f.Restricted, err = d.Gate.Restricted(ctx, p.Organisation, p.ID); err != nil {
		return f, err
	}
	if f.Asked, err = d.Asked(ctx, p); err != nil {
		return f, err
	}
	days, err := d.Gate.KeptFor(ctx, p.Organisation)
	if err != nil {
		return f, err
	}
	for _, class := range map[string][]string{"visitor": {"visitor", "transcript", "conversation"}, "agent": {"agent"}}[p.Kind] {
		if n, ok := days[class]; ok {
			f.KeptFor = append(f.KeptFor, Keeping{class, n})
		}
	}
	head, err := d.Log.Head(ctx, p.Organisation)
	if err != nil {
		return f, err
	}
	f.Origin, f.Size, f.Made = head.Origin, head.Size, d.Now()
	return f, nil
}
