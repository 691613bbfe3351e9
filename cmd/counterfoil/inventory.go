package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"counterfoil/internal/inventory"
)

type inventoryShowCmd struct {
	JSON bool `help:"For programs: the whole list."`
}

// Help is shown below the flags.
func (inventoryShowCmd) Help() string {
	return "The list is part of the program; counterfoil doctor holds it against the live database.\n\nExamples:\n  counterfoil inventory show --lang fr\n  counterfoil inventory show --json"
}

// Run shows the list.
func (c inventoryShowCmd) Run(a *app) error {
	i, err := inventory.Read()
	if err != nil {
		return err
	}
	if c.JSON {
		return a.json(i)
	}
	t := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, a.in("WHERE\tCLASS\tWHAT\tWHY\tHOW LONG", "OÙ\tCLASSE\tQUOI\tPOURQUOI\tCOMBIEN DE TEMPS"))
	for _, places := range [][]inventory.Place{i.Places, i.Elsewhere} {
		for _, p := range places {
			for _, class := range []string{"personal", "pseudonym", "secret", "organisational", "technical"} {
				if names := p.Columns[class]; len(names) > 0 {
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", p.Place, i.Classes[class].In(a.lang), strings.Join(names, " "), i.Purposes[p.Purpose].In(a.lang), i.Retention[p.Retention].In(a.lang))
				}
			}
		}
	}
	return t.Flush()
}

type inventoryRopaCmd struct{}

// Help is shown below the flags.
func (inventoryRopaCmd) Help() string {
	return "Example:\n  counterfoil inventory ropa --lang fr > registre.md"
}

// Run writes the record of processing.
func (c inventoryRopaCmd) Run(a *app) error {
	i, err := inventory.Read()
	if err != nil {
		return err
	}
	return i.Processing(a.stdout, a.lang)
}

type inventoryFlowCmd struct{}

// Help is shown below the flags.
func (inventoryFlowCmd) Help() string {
	return "The picture is Mermaid text, which many editors and sites draw.\n\nExample:\n  counterfoil inventory flow > flow.mmd"
}

// Run writes the picture of flows.
func (c inventoryFlowCmd) Run(a *app) error {
	i, err := inventory.Read()
	if err != nil {
		return err
	}
	return i.Flow(a.stdout, a.lang)
}
