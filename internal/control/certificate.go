package control

import (
	"fmt"
	"strings"
	"time"
)

// CertificateText says for people what was erased and which record certifies it, in English or French. backups is until when they are kept; nil if nobody
// said so.
func CertificateText(lang, origin string, e Erasure, backups *time.Time) string {
	w := words[lang == "fr"]
	var b strings.Builder
	if e.Done == nil {
		fmt.Fprintf(&b, w.notDone, w.kinds[e.Kind], e.Reference, e.Order, e.Conversations)
		return b.String()
	}
	fmt.Fprintf(&b, w.done, w.kinds[e.Kind], e.Reference, e.Ordered.UTC().Format(time.RFC3339), e.Order, e.Done.UTC().Format(time.RFC3339), e.Keys, e.Conversations, e.Messages, e.Fields, e.Others)
	if backups != nil {
		fmt.Fprintf(&b, w.backups, backups.UTC().Format(time.DateOnly))
	} else {
		b.WriteString(w.noBackups)
	}
	for _, a := range e.Archives {
		fmt.Fprintf(&b, w.archive, a.Name, a.Until.UTC().Format(time.DateOnly))
	}
	fmt.Fprintf(&b, w.certificate, *e.Certificate, origin)
	return b.String()
}

type certificateWords struct {
	kinds                                                   map[string]string
	done, notDone, backups, noBackups, archive, certificate string
}

var words = map[bool]certificateWords{
	false: {
		kinds: map[string]string{"visitor": "The visitor", "agent": "The agent", "conversation": "The conversation", "organisation": "The organisation"},
		done: `%s known to the log as %s is erased.
Ordered    %s, by record %d.
Done       %s, when nothing was left.
Destroyed  %d keys.
Removed    %d conversations, %d of their events, %d sealed values, %d other rows.
Records of the log knew it by references that mean nothing without the keys.
What was delivered to Microsoft Teams lies there, as long as its tenant keeps it.
`,
		notDone:     "%s known to the log as %s is not erased yet. Record %d orders it; %d conversations have gone so far.\n",
		backups:     "Backups of the database are kept until %s, as the organisation says; one that is restored is erased again from the published log before it serves anything.\n",
		noBackups:   "How long backups of the database are kept nobody has said; one that is restored is erased again from the published log before it serves anything.\n",
		archive:     "The sealed archive %s has a copy until %s; only the organisation can open it, with the key that it keeps.\n",
		certificate: "This is certified by record %d of the log %s, under its signed checkpoint.\n",
	},
	true: {
		kinds: map[string]string{"visitor": "Le visiteur", "agent": "L'agent", "conversation": "La conversation", "organisation": "L'organisation"},
		done: `%s que le journal connaît sous %s : effacement accompli.
Ordonné    %s, par l'enregistrement %d.
Accompli   %s, quand il ne restait rien.
Détruites  %d clés.
Supprimés  %d conversations, %d de leurs événements, %d valeurs scellées, %d autres lignes.
Les enregistrements du journal emploient des références qui ne veulent rien dire sans les clés.
Ce qui a été remis à Microsoft Teams s'y trouve tant que son locataire le conserve.
`,
		notDone:     "%s que le journal connaît sous %s : effacement en cours. L'enregistrement %d l'ordonne ; %d conversations ont disparu jusqu'ici.\n",
		backups:     "Les sauvegardes de la base sont conservées jusqu'au %s, selon l'organisation ; l'une d'elles, restaurée, est effacée de nouveau d'après le journal publié avant de servir quoi que ce soit.\n",
		noBackups:   "Personne n'a dit combien de temps les sauvegardes de la base sont conservées ; l'une d'elles, restaurée, est effacée de nouveau d'après le journal publié avant de servir quoi que ce soit.\n",
		archive:     "L'archive scellée %s en garde une copie jusqu'au %s ; seule l'organisation peut l'ouvrir, avec la clé qu'elle détient.\n",
		certificate: "L'enregistrement %d du journal %s en atteste, sous son point de contrôle signé.\n",
	},
}
