package main

import (
	"fmt"
	"net/url"
	"os"

	"github.com/google/uuid"

	"counterfoil/internal/teams"
)

type teamsPackageCmd struct {
	Out       string `help:"File to write." default:"counterfoil-teams.zip"`
	Name      string `help:"Name of the app in Teams, at most 30 characters." default:"Counterfoil"`
	Developer string `required:"" help:"Your organisation's name."`
	Website   string `required:"" help:"Your organisation's website (https)."`
	Privacy   string `required:"" help:"Address of your privacy statement (https)."`
	Terms     string `required:"" help:"Address of your terms of use (https)."`
	Release   string `help:"Version of the package." default:"1.0.0"`
}

// Help is shown below the flags.
func (teamsPackageCmd) Help() string {
	return "Example:\n  COUNTERFOIL_BOT_APP_ID=… COUNTERFOIL_PUBLIC_URL=https://chat.example.com counterfoil teams package \\\n" +
		"    --developer Contoso --website https://www.example.com --privacy https://www.example.com/privacy --terms https://www.example.com/terms"
}

// Run writes the app package.
func (c teamsPackageCmd) Run(a *app) error {
	settings, err := a.settings()
	if err != nil {
		return err
	}
	public, err := url.Parse(settings.PublicURL)
	if err != nil {
		return err
	}
	f, err := os.Create(c.Out)
	if err != nil {
		return err
	}
	err = teams.Package(f, teams.PackageConfig{
		AppID: settings.Bot.AppID,
		// The app's id follows from the bot's, so that a package made again replaces the earlier one.
		ManifestID:  uuid.NewSHA1(uuid.NameSpaceURL, []byte("counterfoil:"+settings.Bot.AppID)).String(),
		Name:        c.Name,
		Developer:   teams.Developer{Name: c.Developer, WebsiteURL: c.Website, PrivacyURL: c.Privacy, TermsURL: c.Terms},
		Domain:      public.Hostname(),
		Version:     c.Release,
		AccentColor: "#0B5C63",
	})
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(c.Out)
		return usageError{err.Error() + " (COUNTERFOIL_BOT_APP_ID and COUNTERFOIL_PUBLIC_URL say which bot and where)"}
	}
	fmt.Fprintf(a.stdout, "Wrote %s. Upload it in the Teams admin centre, or in Teams under Apps, Manage your apps.\nThe bot's messaging endpoint is %s/teams/messages\n", c.Out, settings.PublicURL)
	return nil
}
