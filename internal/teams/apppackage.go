package teams

import (
	"archive/zip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// manifestVersion is the newest schema that every tenant's admin centre takes and that has the longer command texts.
const manifestVersion = "1.24"

// Developer names who runs the bot, as Teams shows it.
type Developer struct{ Name, WebsiteURL, PrivacyURL, TermsURL string }

// PackageConfig describes the app.
type PackageConfig struct {
	// AppID is the bot's application id; ManifestID is the app's own id. Both are GUIDs.
	AppID, ManifestID string
	// Name is at most 30 characters.
	Name      string
	Developer Developer
	// Domain is the public host name of the product.
	Domain string
	// Version is three numbers with dots. Teams takes an update only under a higher one.
	Version string
	// AccentColor is "#RRGGBB".
	AccentColor string
}

type (
	manifest struct {
		Schema          string            `json:"$schema"`
		ManifestVersion string            `json:"manifestVersion"`
		Version         string            `json:"version"`
		ID              string            `json:"id"`
		Developer       manifestDeveloper `json:"developer"`
		Localization    manifestLanguages `json:"localizationInfo"`
		Name            manifestText      `json:"name"`
		Description     manifestText      `json:"description"`
		Icons           manifestIcons     `json:"icons"`
		AccentColor     string            `json:"accentColor"`
		Bots            []manifestBot     `json:"bots"`
		ValidDomains    []string          `json:"validDomains"`
	}
	manifestDeveloper struct {
		Name    string `json:"name"`
		Website string `json:"websiteUrl"`
		Privacy string `json:"privacyUrl"`
		Terms   string `json:"termsOfUseUrl"`
	}
	manifestLanguages struct {
		Default    string             `json:"defaultLanguageTag"`
		Additional []manifestLanguage `json:"additionalLanguages"`
	}
	manifestLanguage struct {
		Tag  string `json:"languageTag"`
		File string `json:"file"`
	}
	manifestText struct {
		Short string `json:"short"`
		Full  string `json:"full"`
	}
	manifestIcons struct {
		Color   string `json:"color"`
		Outline string `json:"outline"`
	}
	manifestBot struct {
		BotID              string            `json:"botId"`
		Scopes             []string          `json:"scopes"`
		SupportsFiles      bool              `json:"supportsFiles"`
		IsNotificationOnly bool              `json:"isNotificationOnly"`
		CommandLists       []manifestCommand `json:"commandLists"`
	}
	manifestCommand struct {
		Scopes   []string       `json:"scopes"`
		Commands []manifestItem `json:"commands"`
	}
	manifestItem struct {
		Title       string `json:"title"`
		Description string `json:"description"`
	}
)

// command is one entry of the menu. Choosing one types its title, so titles are the same in every language.
type command struct{ title, english, french string }

// The menus: everything in the 1:1 chat, and in a team only what does not act on the reader's own current conversation.
var (
	personalCommands = []command{
		{"chats", "Show my open chats and switch between them", "Voir mes conversations ouvertes et en changer"},
		{"end", "End the current chat", "Terminer la conversation actuelle"},
		{"transfer", "Give the current chat back to the channel", "Rendre la conversation actuelle au canal"},
		{"my data", "See who was shown my name and email, and ask about my data", "Voir à qui mon nom et mon e-mail ont été montrés, et interroger sur mes données"},
		{"help", "Show what I can do", "Voir ce que je sais faire"},
	}
	teamCommands = []command{
		{"help", "Show what I can do", "Voir ce que je sais faire"},
	}
)

var (
	guidForm    = regexp.MustCompile(`^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$`)
	versionForm = regexp.MustCompile(`^(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})$`)
	colorForm   = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)
	domainForm  = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

func (c PackageConfig) check() error {
	var errs []error
	require := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New("teams: app package: "+what))
		}
	}
	require(guidForm.MatchString(c.AppID), "the bot's id is not a GUID")
	require(guidForm.MatchString(c.ManifestID), "the app's id is not a GUID")
	require(printable(c.Name, 30), "the name needs 1 to 30 printable characters")
	require(printable(c.Developer.Name, 32), "the developer's name needs 1 to 32 printable characters")
	for _, u := range []struct{ what, raw string }{
		{"website", c.Developer.WebsiteURL}, {"privacy", c.Developer.PrivacyURL}, {"terms", c.Developer.TermsURL},
	} {
		p, err := url.Parse(u.raw)
		require(err == nil && p.Scheme == "https" && p.Hostname() != "" && p.User == nil && len(u.raw) <= 2048,
			"the "+u.what+" address is not an https address")
	}
	require(domainForm.MatchString(c.Domain) && len(c.Domain) <= 253, "the domain is not a host name with a dot, in lower case")
	require(versionForm.MatchString(c.Version), "the version is not three numbers with dots")
	require(colorForm.MatchString(c.AccentColor), "the accent colour is not #RRGGBB")
	return errors.Join(errs...)
}

func printable(s string, limit int) bool {
	return s != "" && utf8.ValidString(s) && utf8.RuneCountInString(s) <= limit && s == foreign(s, limit)
}

func (c PackageConfig) manifest() manifest {
	list := func(commands []command) (items []manifestItem) {
		for _, m := range commands {
			items = append(items, manifestItem{m.title, m.english})
		}
		return items
	}
	return manifest{
		Schema:          "https://developer.microsoft.com/en-us/json-schemas/teams/v" + manifestVersion + "/MicrosoftTeams.schema.json",
		ManifestVersion: manifestVersion,
		Version:         c.Version,
		ID:              strings.ToLower(c.ManifestID),
		Developer:       manifestDeveloper{c.Developer.Name, c.Developer.WebsiteURL, c.Developer.PrivacyURL, c.Developer.TermsURL},
		Localization:    manifestLanguages{"en", []manifestLanguage{{"fr", "fr.json"}}},
		Name:            manifestText{c.Name, c.Name},
		Description: manifestText{
			"Answer visitors of your website from Microsoft Teams.",
			"Each visitor who waits appears as a card in a channel. Press Join and answer in the chat with the bot; every message goes to the visitor. " +
				"Each time somebody is shown a name or an email address, a record stays behind that can be checked.",
		},
		Icons:       manifestIcons{"color.png", "outline.png"},
		AccentColor: c.AccentColor,
		Bots: []manifestBot{{
			BotID:  strings.ToLower(c.AppID),
			Scopes: []string{"personal", "team"},
			CommandLists: []manifestCommand{
				{[]string{"personal"}, list(personalCommands)},
				{[]string{"team"}, list(teamCommands)},
			},
		}},
		ValidDomains: []string{c.Domain},
	}
}

// french is the localisation file. Command titles are left out: they are what the bot understands.
func (c PackageConfig) french() map[string]string {
	texts := map[string]string{
		"$schema":           "https://developer.microsoft.com/en-us/json-schemas/teams/v" + manifestVersion + "/MicrosoftTeams.Localization.schema.json",
		"name.short":        c.Name,
		"name.full":         c.Name,
		"description.short": "Répondez aux visiteurs de votre site depuis Microsoft Teams.",
		"description.full": "Chaque visiteur en attente apparaît comme une carte dans un canal. Choisissez Rejoindre, puis répondez dans la conversation avec le bot\u00a0; " +
			"chaque message va au visiteur. Chaque fois qu’un nom ou une adresse e-mail est montré à quelqu’un, une trace vérifiable en reste.",
	}
	for i, commands := range [][]command{personalCommands, teamCommands} {
		for j, m := range commands {
			texts[fmt.Sprintf("bots[0].commandLists[%d].commands[%d].description", i, j)] = m.french
		}
	}
	return texts
}

// Package writes the app package that an administrator uploads to Teams. It asks for no Graph permission and no
// sign-in. The same config gives the same bytes.
func Package(w io.Writer, cfg PackageConfig) error {
	if err := cfg.check(); err != nil {
		return err
	}
	color, err := colorIcon()
	if err != nil {
		return fmt.Errorf("teams: draw the colour icon: %w", err)
	}
	outline, err := outlineIcon()
	if err != nil {
		return fmt.Errorf("teams: draw the outline icon: %w", err)
	}
	manifest, err := json.MarshalIndent(cfg.manifest(), "", "  ")
	if err != nil {
		return fmt.Errorf("teams: encode the manifest: %w", err)
	}
	french, err := json.MarshalIndent(cfg.french(), "", "  ")
	if err != nil {
		return fmt.Errorf("teams: encode the French texts: %w", err)
	}
	archive := zip.NewWriter(w)
	for _, f := range []struct {
		name string
		body []byte
	}{{"manifest.json", manifest}, {"color.png", color}, {"outline.png", outline}, {"fr.json", french}} {
		// Stored, and dated at the epoch of the format: nothing depends on a compressor or on today.
		header := &zip.FileHeader{Name: f.name, Method: zip.Store, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
		entry, err := archive.CreateHeader(header)
		if err == nil {
			_, err = entry.Write(f.body)
		}
		if err != nil {
			return fmt.Errorf("teams: write %s: %w", f.name, err)
		}
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("teams: close the app package: %w", err)
	}
	return nil
}
