package access

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"counterfoil/audit/pglog"
	"counterfoil/internal/filter"
	"counterfoil/policy"
)

// nothing stands in a filter for what no record has. Whatever was typed in its place may be anything, so it is not recorded.
const nothing = "nothing"

// Seek puts the references of an organisation's log in place of what people write in a filter: handles, and addresses. What is recorded
// of it holds no EUII: also of an action or a rule stays only one that there is. log is the organisation, or the id of a log of it that was closed. A
// handle that is the beginning of several references is a *filter.Error.
func (g *Gate) Seek(ctx context.Context, organisation, log uuid.UUID, f filter.Filter) (sought filter.Filter, recorded string, err error) {
	text := f.String()
	if f, err = filter.Parse(text); err != nil { // so that errors speak of this text
		return f, "", err
	}
	if sought, err = g.resolve(ctx, organisation, log, f, text); err != nil || !sought.Names(filter.Action) && !sought.Names(filter.Rule) {
		return sought, sought.String(), err
	}
	there := make(map[string][]string)
	if there[filter.Action], err = g.log.Actions(ctx, log); err != nil {
		return sought, "", err
	}
	for _, p := range policy.Purposes() {
		there[filter.Action] = append(there[filter.Action], string(p))
	}
	if there[filter.Rule], err = g.log.Rules(ctx, log); err != nil {
		return sought, "", err
	}
	known, err := sought.Map(func(t filter.Term) ([]filter.Term, error) {
		if list, closed := there[t.Key]; closed {
			t.Values = slices.Clone(t.Values)
			for i, v := range t.Values {
				if !slices.Contains(list, v) {
					t.Values[i] = nothing
				}
			}
			t.Values = slices.Compact(t.Values)
		}
		return []filter.Term{t}, nil
	})
	return sought, known.String(), err
}

func (g *Gate) resolve(ctx context.Context, organisation, log uuid.UUID, f filter.Filter, text string) (filter.Filter, error) {
	return f.Map(func(t filter.Term) ([]filter.Term, error) {
		sought := filter.Term{Key: t.Key}
		var network []string
		for _, v := range t.Values {
			switch t.Key {
			case filter.Actor, filter.Subject, filter.Conversation, filter.Person:
				ref, err := g.whole(ctx, log, t, v, text)
				if err != nil {
					return nil, err
				}
				v = ref
			case filter.IP:
				p, _ := filter.Prefix(v)
				kind, name := "address", p.Addr().String()
				if !p.IsSingleIP() {
					kind, name = "network", p.String()
				}
				ref, err := g.ReferenceText(ctx, organisation, kind, name)
				if err != nil {
					return nil, err
				}
				if kind == "network" {
					network = append(network, ref)
					continue
				}
				v = ref
			}
			if !slices.Contains(sought.Values, v) {
				sought.Values = append(sought.Values, v)
			}
		}
		if t.Key != filter.IP {
			return []filter.Term{sought}, nil
		}
		var terms []filter.Term
		if len(sought.Values) > 0 {
			terms = append(terms, filter.Term{Key: filter.Address, Values: sought.Values})
		}
		if len(network) > 0 {
			terms = append(terms, filter.Term{Key: filter.Network, Values: network})
		}
		return terms, nil
	})
}

// whole gives the only reference that begins like this.
func (g *Gate) whole(ctx context.Context, log uuid.UUID, t filter.Term, beginning, text string) (string, error) {
	if filter.IsReference(beginning) {
		return beginning, nil
	}
	columns := []string{t.Key}
	if t.Key == filter.Person {
		columns = []string{filter.Actor, filter.Subject}
	}
	var found []string
	for _, c := range columns {
		refs, err := g.log.References(ctx, log, c, beginning, 2)
		if err != nil {
			return "", err
		}
		for _, ref := range refs {
			if !slices.Contains(found, ref) {
				found = append(found, ref)
			}
		}
	}
	switch len(found) {
	case 0:
		return nothing, nil
	case 1:
		return found[0], nil
	}
	return "", t.At(filter.SeveralPeople, text)
}

// Queries are the searches of the log that a filter with references stands for. Any record that one of them finds answers the filter.
func Queries(f filter.Filter, now time.Time) ([]pglog.Query, error) {
	alternatives, err := f.Alternatives()
	if err != nil {
		return nil, err
	}
	queries := make([]pglog.Query, len(alternatives))
	for i, c := range alternatives {
		q := pglog.Query{Since: f.Since.On(now), Until: f.Until.On(now)}
		for _, is := range c.Is {
			*map[string]*string{
				filter.Kind: &q.Kind, filter.Action: &q.Action, filter.Decision: &q.Decision, filter.Actor: &q.Actor, filter.Subject: &q.Subject,
				filter.Conversation: &q.Conversation, filter.Address: &q.Address, filter.Network: &q.AddressNet, filter.Rule: &q.Rule,
			}[is.Column] = is.Value
		}
		for _, is := range c.Not {
			q.Not = append(q.Not, pglog.Term(is))
		}
		queries[i] = q
	}
	return queries, nil
}
