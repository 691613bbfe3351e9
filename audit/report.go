package audit

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// WriteText writes the report in plain words: what is wrong, what was checked and by which key, and what the log says.
func (r Report) WriteText(w io.Writer, took time.Duration) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-9s "+format+"\n", append([]any{name}, args...)...)
	}
	if len(r.Faults) == 0 {
		b.WriteString("The log is good: every record is the one that was signed, in its place.\n\n")
	} else {
		b.WriteString("THE LOG IS NOT GOOD.\n\n")
		for _, f := range r.Faults {
			fmt.Fprintf(&b, "  %-16s %s", f.Kind, f.Text)
			if f.File != "" {
				fmt.Fprintf(&b, " (%s)", f.File)
			}
			b.WriteByte('\n')
		}
		if r.More {
			b.WriteString("  There are more problems than these.\n")
		}
		b.WriteByte('\n')
	}
	if r.Checkpoint.Origin != "" {
		line("log", "%s", r.Checkpoint.Origin)
		line("records", "%d under the checkpoint, %d read (%d bytes)", r.Checkpoint.Size, r.Records, r.Bytes)
		if r.Pruned > 0 {
			why := "you said they might be"
			if r.PrunedBy != nil {
				why = fmt.Sprintf("record %d of the log says", *r.PrunedBy)
			}
			line("", "Records 0 to %d were pruned, as %s: the tree proves that %d stood there,", r.Pruned-1, why, r.Pruned)
			line("", "and nothing of what they said.")
		}
		if r.Records > 0 {
			line("from", "%s", r.First.Format(time.RFC3339Nano))
			line("to", "%s", r.Last.Format(time.RFC3339Nano))
		}
		line("root", "%s", r.Checkpoint.Root)
	}
	line("key", "%s", r.Key)
	if r.KeyFromExport {
		line("", "taken from beside the log, so this shows only that the log agrees with itself.")
		line("", "Give a key you had from elsewhere with --key to know whose log it is.")
	} else {
		line("", "%s", cmp.Or(r.KeySource, "given by the caller"))
	}
	if r.HasSince {
		line("since", "an earlier checkpoint of %d records was given", r.Since.Size)
	} else {
		line("since", "no earlier checkpoint was given, so a log put back to an older state would not be seen")
	}
	switch {
	case r.Witness == "":
	case r.Witnessed.IsZero():
		line("witness", "%s has not cosigned it", r.Witness)
	default:
		line("witness", "%s saw its first %d records, and signed that at %s", r.Witness, r.SeenSize, r.Witnessed.Format(time.RFC3339))
	}
	for i, what := range r.Checked() {
		line([]string{"checked", ""}[min(i, 1)], "%s", what)
	}
	counts := func(title string, of map[string]uint64) {
		if len(of) > 0 {
			fmt.Fprintf(&b, "\n%s\n", title)
		}
		names := slices.SortedFunc(maps.Keys(of), func(x, y string) int {
			return cmp.Or(cmp.Compare(of[y], of[x]), strings.Compare(x, y))
		})
		for i, name := range names {
			if i == 20 {
				fmt.Fprintf(&b, "  %12s and %d more\n", "", len(names)-i)
				break
			}
			fmt.Fprintf(&b, "  %12d %s\n", of[name], name)
		}
	}
	counts("Kinds of record", r.Kinds)
	counts("Decisions on disclosures", r.Decisions)
	counts("What was done", r.Actions)
	counts("Who did it", r.Actors)
	if r.Records > 0 {
		fmt.Fprintf(&b, "\n%d records in %s (%d a second).\n", r.Records, took.Round(time.Millisecond), perSecond(r.Records, took))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Checked lists what the verification looked at, as far as it came. What does not hold is in the faults.
func (r Report) Checked() []string {
	if r.Checkpoint.Origin == "" {
		return []string{"the checkpoint's form and signature, and nothing beyond, because they do not hold"}
	}
	list := []string{
		"the signature of the checkpoint and its origin",
		"every record: its one allowed form, its number, its organisation, and that time never goes back",
		"every tile, and the root, recomputed from the records",
	}
	if r.Database {
		list = append(list, "what the database searches records by, against the records, none missing and none too many", "the head that the next record will continue")
	}
	if r.HasSince {
		list = append(list, "that the log continues the earlier checkpoint")
	}
	if r.Witness != "" {
		list = append(list, "that the log is or continues what the witness has cosigned, and when it did")
	}
	return list
}

// outcome is the JSON form of a report. Its members are only ever added to.
type outcome struct {
	Good             bool              `json:"good"`
	Faults           []Fault           `json:"faults"`
	MoreFaults       bool              `json:"more_faults"`
	Origin           string            `json:"origin"`
	Size             uint64            `json:"size"`
	Root             string            `json:"root"`
	Key              string            `json:"key"`
	KeyFromExport    bool              `json:"key_from_export"`
	KeySource        string            `json:"key_source"`
	Since            *uint64           `json:"since"`
	Pruned           uint64            `json:"pruned"`
	PrunedBy         *uint64           `json:"pruned_by,omitempty"`
	Witness          string            `json:"witness,omitempty"`
	Witnessed        *time.Time        `json:"witnessed,omitempty"`
	WitnessedSize    *uint64           `json:"witnessed_size,omitempty"`
	Checked          []string          `json:"checked"`
	Records          uint64            `json:"records"`
	Bytes            uint64            `json:"bytes"`
	First            *time.Time        `json:"first"`
	Last             *time.Time        `json:"last"`
	Kinds            map[string]uint64 `json:"kinds"`
	Decisions        map[string]uint64 `json:"decisions"`
	Actions          map[string]uint64 `json:"actions"`
	Actors           map[string]uint64 `json:"actors"`
	Seconds          float64           `json:"seconds"`
	RecordsPerSecond uint64            `json:"records_per_second"`
}

// WriteJSON writes the report for programs.
func (r Report) WriteJSON(w io.Writer, took time.Duration) error {
	o := outcome{
		Good: len(r.Faults) == 0, Faults: r.Faults, MoreFaults: r.More,
		Origin: r.Checkpoint.Origin, Size: r.Checkpoint.Size, Root: r.Checkpoint.Root.String(),
		Key: r.Key, KeyFromExport: r.KeyFromExport, KeySource: r.KeySource, Pruned: r.Pruned, PrunedBy: r.PrunedBy, Checked: r.Checked(),
		Records: r.Records, Bytes: r.Bytes,
		Kinds: r.Kinds, Decisions: r.Decisions, Actions: r.Actions, Actors: r.Actors,
		Seconds: took.Seconds(), RecordsPerSecond: perSecond(r.Records, took),
	}
	if o.Faults == nil {
		o.Faults = []Fault{}
	}
	if r.HasSince {
		o.Since = &r.Since.Size
	}
	if o.Witness = r.Witness; !r.Witnessed.IsZero() {
		o.Witnessed, o.WitnessedSize = &r.Witnessed, &r.SeenSize
	}
	if r.Records > 0 {
		o.First, o.Last = &r.First, &r.Last
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(o)
}

// perSecond is how many of n fit into a second at the pace of took.
func perSecond(n uint64, took time.Duration) uint64 {
	return uint64(float64(n) / max(took.Seconds(), 1e-6))
}

// Progress draws a bar on a terminal once a second has passed; on anything else it draws nothing.
type Progress struct {
	to    io.Writer // nil if it is no terminal
	start time.Time
	drawn time.Time
}

// NewProgress begins now.
func NewProgress(to io.Writer) *Progress {
	p := &Progress{start: time.Now()}
	if f, ok := to.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			p.to = to
		}
	}
	return p
}

// Update says how far things are; it is made to be Options.Progress.
func (p *Progress) Update(done, total uint64) {
	const width = 30
	now := time.Now()
	if p.to == nil || now.Sub(p.start) < time.Second || now.Sub(p.drawn) < 100*time.Millisecond {
		return
	}
	p.drawn = now
	full := int(done * width / max(total, 1))
	fmt.Fprintf(p.to, "\r[%s%s] %3d %% of %d records, %d a second", strings.Repeat("#", full), strings.Repeat(".", width-full),
		done*100/max(total, 1), total, perSecond(done, now.Sub(p.start)))
}

// Clear takes the bar away.
func (p *Progress) Clear() {
	if !p.drawn.IsZero() {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
}
