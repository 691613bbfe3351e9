// Counterfoil-verify checks an exported audit log offline: that it is, record by record, the log its checkpoint was
// signed for. It needs nothing but the directory, reads it only, and opens no connection.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"counterfoil/audit"
)

// Exit codes.
const (
	exitGood        = 0
	exitProblem     = 1 // the log is not what was signed
	exitUsage       = 2
	exitEnvironment = 3 // a file cannot be read: nothing is known about the log
)

const help = `counterfoil-verify checks an exported audit log.

Usage:

  counterfoil-verify DIR [--key FILE|VKEY] [--since CHECKPOINT] [--json]

DIR is a directory in the layout of C2SP tlog-tiles: checkpoint, tile/..., key.pub.

  --key FILE|VKEY      the log's public key, as a file or as the key itself (name+hash+key). Without it the key.pub
                       beside the log is believed, which is weaker: whoever can replace the log can replace that too.
  --since CHECKPOINT   a checkpoint file kept from an earlier visit. The log must continue it; this is what shows that
                       it was not cut, put back to an older state, or written anew.
  --json               print the outcome as one JSON object

Exit codes: 0 the log is good, 1 there is a problem, 2 wrong usage, 3 something could not be read.

Examples:

  counterfoil-verify ./export
  counterfoil-verify ./export --key auditor/key.pub
  counterfoil-verify ./export --key auditor/key.pub --since auditor/checkpoint-2026-03 --json
`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is the whole program; it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, help)
		return exitGood
	}
	if err != nil {
		fmt.Fprintf(stderr, "counterfoil-verify: %v\nTry: counterfoil-verify --help\n", err)
		return exitUsage
	}
	options, err := o.load()
	if err != nil {
		fmt.Fprintf(stderr, "counterfoil-verify: %v\n", err)
		return exitEnvironment
	}
	if isTerminal(stderr) {
		show := progress{to: stderr, start: time.Now()}
		options.Progress = show.update
		defer show.clear()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	start := time.Now()
	report, err := audit.VerifyExport(ctx, os.DirFS(o.dir), options)
	if err != nil {
		fmt.Fprintf(stderr, "counterfoil-verify: %v\n", err)
		return exitEnvironment
	}
	if o.json {
		err = printJSON(stdout, report, time.Since(start))
	} else {
		err = printText(stdout, report, time.Since(start))
	}
	switch {
	case err != nil:
		fmt.Fprintf(stderr, "counterfoil-verify: write the report: %v\n", err)
		return exitEnvironment
	case len(report.Faults) > 0:
		return exitProblem
	}
	return exitGood
}

// arguments are the command line.
type arguments struct {
	dir, key, since string
	json            bool
}

// parse reads the command line. Options may stand before or after DIR.
func parse(args []string) (arguments, error) {
	var o arguments
	flags := flag.NewFlagSet("counterfoil-verify", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.key, "key", "", "")
	flags.StringVar(&o.since, "since", "", "")
	flags.BoolVar(&o.json, "json", false, "")
	var dirs []string
	for {
		if err := flags.Parse(args); err != nil {
			return o, err
		}
		if flags.NArg() == 0 {
			break
		}
		dirs, args = append(dirs, flags.Arg(0)), flags.Args()[1:]
	}
	if len(dirs) != 1 {
		return o, fmt.Errorf("expected one directory, got %d", len(dirs))
	}
	o.dir = dirs[0]
	return o, nil
}

// load reads the files that the options name.
func (o arguments) load() (audit.Options, error) {
	options := audit.Options{Key: o.key}
	if info, err := os.Stat(o.dir); err != nil {
		return options, err
	} else if !info.IsDir() {
		return options, fmt.Errorf("%s is not a directory", o.dir)
	}
	if o.key != "" {
		if data, err := os.ReadFile(o.key); err == nil {
			options.Key = strings.TrimSpace(string(data))
		} else if strings.Count(o.key, "+") < 2 {
			return options, fmt.Errorf("--key is neither a readable file nor a verifier key: %w", err)
		}
	}
	if o.since != "" {
		data, err := os.ReadFile(o.since)
		if err != nil {
			return options, fmt.Errorf("--since: %w", err)
		}
		options.Since = data
	}
	return options, nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// progress draws one line once a second has passed.
type progress struct {
	to    io.Writer
	start time.Time
	drawn bool
}

func (p *progress) update(done, total uint64) {
	if time.Since(p.start) > time.Second {
		p.drawn = true
		fmt.Fprintf(p.to, "\r%3d %% of %d records", done*100/max(total, 1), total)
	}
}

func (p *progress) clear() {
	if p.drawn {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
}

// perSecond is how many of n fit into a second at the pace of took.
func perSecond(n uint64, took time.Duration) uint64 {
	return uint64(float64(n) / max(took.Seconds(), 1e-6))
}

func printText(w io.Writer, r audit.Report, took time.Duration) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-12s "+format+"\n", append([]any{name}, args...)...)
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
		line("records", "%d under the checkpoint, %d read", r.Checkpoint.Size, r.Records)
		if r.Records > 0 {
			line("first", "%s", r.First.Format(time.RFC3339Nano))
			line("last", "%s", r.Last.Format(time.RFC3339Nano))
		}
		line("root", "%s", r.Checkpoint.Root)
	}
	line("key", "%s", r.Key)
	if r.KeyFromExport {
		line("", "taken from beside the log, so this shows only that the log agrees with itself.")
		line("", "Give a key you had from elsewhere with --key to know whose log it is.")
	} else {
		line("", "given by you")
	}
	if r.HasSince {
		line("since", "an earlier checkpoint of %d records was given", r.Since.Size)
	} else {
		line("since", "no earlier checkpoint was given, so a log put back to an older state would not be seen")
	}
	counts := func(title string, of map[string]uint64) {
		if len(of) > 0 {
			fmt.Fprintf(&b, "\n%s\n", title)
		}
		names := slices.SortedFunc(maps.Keys(of), func(a, b string) int {
			if of[a] != of[b] {
				return int(min(max(int64(of[b])-int64(of[a]), -1), 1))
			}
			return strings.Compare(a, b)
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

// outcome is the JSON form of a report. Its members are only ever added to.
type outcome struct {
	Good             bool              `json:"good"`
	Faults           []audit.Fault     `json:"faults"`
	MoreFaults       bool              `json:"more_faults"`
	Origin           string            `json:"origin"`
	Size             uint64            `json:"size"`
	Root             string            `json:"root"`
	Key              string            `json:"key"`
	KeyFromExport    bool              `json:"key_from_export"`
	Since            *uint64           `json:"since"`
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

func printJSON(w io.Writer, r audit.Report, took time.Duration) error {
	o := outcome{
		Good: len(r.Faults) == 0, Faults: r.Faults, MoreFaults: r.More,
		Origin: r.Checkpoint.Origin, Size: r.Checkpoint.Size, Root: r.Checkpoint.Root.String(),
		Key: r.Key, KeyFromExport: r.KeyFromExport,
		Records: r.Records, Bytes: r.Bytes,
		Kinds: r.Kinds, Decisions: r.Decisions, Actions: r.Actions, Actors: r.Actors,
		Seconds: took.Seconds(), RecordsPerSecond: perSecond(r.Records, took),
	}
	if o.Faults == nil {
		o.Faults = []audit.Fault{}
	}
	if r.HasSince {
		o.Since = &r.Since.Size
	}
	if r.Records > 0 {
		o.First, o.Last = &r.First, &r.Last
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(o)
}
