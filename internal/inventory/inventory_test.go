package inventory_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"counterfoil/internal/inventory"
	"counterfoil/internal/pg/pgtest"
	"counterfoil/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

func query(t *testing.T, conn *pgx.Conn, sql string) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestEveryColumnOfTheDatabaseIsInTheInventory(t *testing.T) {
	i, err := inventory.Read()
	if err != nil {
		t.Fatal(err)
	}
	conn := pgtest.Database(t, migrations.FS).Superuser(t)
	columns := query(t, conn, inventory.SQLColumns)
	if len(columns) < 300 {
		t.Fatalf("only %d columns are there", len(columns))
	}
	untagged, gone := i.Differences(columns)
	if len(untagged) > 0 {
		t.Errorf("inventory.json does not say what these hold, of whom, why and how long: %q", untagged)
	}
	if len(gone) > 0 {
		t.Errorf("inventory.json has what is not there: %q", gone)
	}
	// What bears the mark of EUII is personal, and nothing else is.
	marked := query(t, conn, `select c.oid::regclass || '.' || a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid where col_description(c.oid, a.attnum) like 'EUII %' order by 1`)
	var personal []string
	for _, c := range columns {
		if i.Class(c) == "personal" {
			personal = append(personal, c)
		}
	}
	if !slices.Equal(marked, personal) {
		t.Errorf("marked as EUII are %q, personal in the inventory %q", marked, personal)
	}
}

func TestTheInventoryExplainsItself(t *testing.T) {
	i, err := inventory.Read()
	if err != nil {
		t.Fatal(err)
	}
	if lacks := i.Unexplained(); len(lacks) > 0 {
		t.Errorf("%q", lacks)
	}
	i.Places = append(slices.Clone(i.Places), inventory.Place{Place: "chat.new", Columns: map[string][]string{"odd": {"a"}}})
	if lacks := i.Unexplained(); len(lacks) != 4 {
		t.Errorf("of a place without anything is said %q", lacks)
	}
	if untagged, gone := i.Differences([]string{"chat.new.b", "chat.visitor.visitor_id"}); !slices.Equal(untagged, []string{"chat.new.b"}) || !slices.Contains(gone, "chat.new.a") {
		t.Errorf("untagged %q, gone %q", untagged, gone[:1])
	}
}

func TestRecordAndPictureAreMadeInBothLanguages(t *testing.T) {
	i, err := inventory.Read()
	if err != nil {
		t.Fatal(err)
	}
	for lang, want := range map[string][]string{
		"en": {"# Record of processing activities", "Lawful basis: Contract, GDPR", "| `chat.event` | Personal, sealed | body |", "title: Flows of personal data", `p_chat_event[("chat.event")] ==> to_agent{{"The agent who joined"}}`},
		"fr": {"# Registre des activités de traitement", "Base juridique : Contrat, RGPD", "| `chat.event` | Personnel, scellé | body |", "title: Flux de données personnelles", `p_chat_event[("chat.event")] ==> to_agent{{"L'agent qui a rejoint"}}`},
	} {
		var b strings.Builder
		if err := i.Processing(&b, lang); err != nil {
			t.Fatal(err)
		}
		if err := i.Flow(&b, lang); err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(b.String(), w) {
				t.Errorf("%s lacks %q", lang, w)
			}
		}
	}
}
