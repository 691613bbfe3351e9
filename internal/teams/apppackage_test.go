package teams_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"image"
	"image/png"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"counterfoil/internal/teams"
)

var app = teams.PackageConfig{
	AppID: "11111111-2222-3333-4444-555555555555", ManifestID: "61111111-2222-3333-4444-55555555555A", Name: "Counterfoil",
	Developer: teams.Developer{
		Name: "Contoso", WebsiteURL: "https://chat.example.com", PrivacyURL: "https://chat.example.com/privacy", TermsURL: "https://chat.example.com/terms",
	},
	Domain: "chat.example.com", Version: "1.2.3", AccentColor: "#0B5C63",
}

func files(t *testing.T, cfg teams.PackageConfig) (map[string][]byte, []byte) {
	t.Helper()
	var b bytes.Buffer
	if err := teams.Package(&b, cfg); err != nil {
		t.Fatal(err)
	}
	r, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, f := range r.File {
		c, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if all[f.Name], err = io.ReadAll(c); err != nil {
			t.Fatal(err)
		}
	}
	return all, b.Bytes()
}

func TestPackageHoldsAManifestWithinTheLimits(t *testing.T) {
	all, raw := files(t, app)
	if _, again := files(t, app); !bytes.Equal(raw, again) {
		t.Error("the same config gave other bytes")
	}
	if len(all) != 4 || all["fr.json"] == nil {
		t.Fatalf("%d files", len(all))
	}
	var m struct {
		Schema   string `json:"$schema"`
		Manifest string `json:"manifestVersion"`
		Version  string
		ID       string
		Name     struct{ Short, Full string }
		Desc     struct{ Short, Full string } `json:"description"`
		Bots     []struct {
			BotID         string
			Scopes        []string
			SupportsFiles bool
			CommandLists  []struct {
				Scopes   []string
				Commands []struct{ Title, Description string }
			}
		}
		Languages struct {
			Default    string                               `json:"defaultLanguageTag"`
			Additional []struct{ LanguageTag, File string } `json:"additionalLanguages"`
		} `json:"localizationInfo"`
		ValidDomains []string
	}
	if err := json.Unmarshal(all["manifest.json"], &m); err != nil {
		t.Fatal(err)
	}
	if m.Manifest != "1.24" || !strings.Contains(m.Schema, "/v1.24/") || m.Version != app.Version || m.ID != strings.ToLower(app.ManifestID) {
		t.Errorf("head: %+v", m)
	}
	if n := utf8.RuneCountInString(m.Desc.Short); n == 0 || n > 80 || len(m.Desc.Full) > 4000 || m.Name.Short != app.Name {
		t.Errorf("texts: %+v %+v", m.Name, m.Desc)
	}
	if len(m.Bots) != 1 || m.Bots[0].BotID != app.AppID || m.Bots[0].SupportsFiles || !slices.Equal(m.Bots[0].Scopes, []string{"personal", "team"}) {
		t.Fatalf("bots: %+v", m.Bots)
	}
	var french map[string]string
	if err := json.Unmarshal(all["fr.json"], &french); err != nil {
		t.Fatal(err)
	}
	if n := utf8.RuneCountInString(french["description.short"]); n == 0 || n > 80 {
		t.Errorf("French short description: %d characters", n)
	}
	var titles []string
	commands := 0
	for i, l := range m.Bots[0].CommandLists {
		if len(l.Scopes) != 1 || len(l.Commands) == 0 || len(l.Commands) > 12 {
			t.Errorf("menu %d: %+v", i, l)
		}
		for _, c := range l.Commands {
			commands++
			if l.Scopes[0] == "personal" {
				titles = append(titles, c.Title)
			}
			if len(c.Title) > 32 || c.Description == "" || len(c.Description) > 128 {
				t.Errorf("command %+v", c)
			}
		}
	}
	if want := []string{"chats", "end", "transfer", "my data", "help"}; !slices.Equal(titles, want) {
		t.Errorf("commands %v", titles)
	}
	translated := 0
	for key, text := range french {
		if strings.HasSuffix(key, "].description") {
			translated++
		}
		if strings.HasSuffix(key, "].title") || text == "" {
			t.Errorf("%s: %q", key, text)
		}
	}
	if translated != commands {
		t.Errorf("%d of %d commands are translated", translated, commands)
	}
	if m.Languages.Default != "en" || len(m.Languages.Additional) != 1 || m.Languages.Additional[0].File != "fr.json" || !slices.Equal(m.ValidDomains, []string{app.Domain}) {
		t.Errorf("languages %+v, domains %v", m.Languages, m.ValidDomains)
	}
	for _, never := range []string{"webApplicationInfo", "authorization", "permissions", "graph"} {
		if bytes.Contains(bytes.ToLower(all["manifest.json"]), []byte(strings.ToLower(never))) {
			t.Errorf("the manifest speaks of %s", never)
		}
	}
}

func TestIconsAreAsTeamsWantsThem(t *testing.T) {
	all, _ := files(t, app)
	icon := func(name string, size int) image.Image {
		t.Helper()
		img, err := png.Decode(bytes.NewReader(all[name]))
		if err != nil || img.Bounds() != image.Rect(0, 0, size, size) {
			t.Fatalf("%s: %v %v", name, img.Bounds(), err)
		}
		return img
	}
	colour := icon("color.png", 192)
	if _, _, _, a := colour.At(0, 0).RGBA(); a != 0xffff {
		t.Error("the colour icon has a transparent corner")
	}
	if colour.At(0, 0) == colour.At(120, 120) {
		t.Error("the colour icon shows nothing")
	}
	outline := icon("outline.png", 32)
	clear, drawn := 0, 0
	for y := range 32 {
		for x := range 32 {
			r, g, b, a := outline.At(x, y).RGBA()
			switch {
			case a == 0:
				clear++
			case r != a || g != a || b != a: // premultiplied: white of any opacity
				t.Fatalf("the outline is not white at %d,%d", x, y)
			default:
				drawn++
			}
		}
	}
	if clear < 300 || drawn < 100 {
		t.Errorf("%d clear and %d drawn pixels", clear, drawn)
	}
}

func TestPackageRefusesWhatTeamsWould(t *testing.T) {
	for name, change := range map[string]func(*teams.PackageConfig){
		"no bot":              func(c *teams.PackageConfig) { c.AppID = "" },
		"an id of other form": func(c *teams.PackageConfig) { c.ManifestID = "x" },
		"no name":             func(c *teams.PackageConfig) { c.Name = "" },
		"a name of 31":        func(c *teams.PackageConfig) { c.Name = strings.Repeat("é", 31) },
		"a control character": func(c *teams.PackageConfig) { c.Name = "a\nb" },
		"a developer of 33":   func(c *teams.PackageConfig) { c.Developer.Name = strings.Repeat("x", 33) },
		"http":                func(c *teams.PackageConfig) { c.Developer.PrivacyURL = "http://chat.example.com" },
		"no terms":            func(c *teams.PackageConfig) { c.Developer.TermsURL = "" },
		"a user in a link":    func(c *teams.PackageConfig) { c.Developer.WebsiteURL = "https://u@chat.example.com" },
		"a wildcard domain":   func(c *teams.PackageConfig) { c.Domain = "*.example.com" },
		"a domain with port":  func(c *teams.PackageConfig) { c.Domain = "chat.example.com:443" },
		"two numbers":         func(c *teams.PackageConfig) { c.Version = "1.2" },
		"a leading zero":      func(c *teams.PackageConfig) { c.Version = "1.02.3" },
		"a colour by name":    func(c *teams.PackageConfig) { c.AccentColor = "teal" },
	} {
		cfg := app
		change(&cfg)
		var b bytes.Buffer
		if err := teams.Package(&b, cfg); err == nil || b.Len() != 0 {
			t.Errorf("%s: %v, %d bytes", name, err, b.Len())
		}
	}
	cfg := app
	cfg.Name = strings.Repeat("é", 30)
	if err := teams.Package(io.Discard, cfg); err != nil {
		t.Errorf("30 characters: %v", err)
	}
}
