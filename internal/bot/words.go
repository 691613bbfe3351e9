package bot

// words are the bot's own lines, in the organisation's language.
type words struct {
	joined, taken, closed, gone, noProfile, denied, unavailable, notJoined, noCurrent, tooLong, noFiles, ended, transferred string
	replied, repeated, visitorEnded, youEnded, left, doubt, switched, help, refused                                         string
	readFirst, restricted, restrictedSay, ownData, ownNever, ownPartly, ownLink, ownSent, ownNothing                        string
	ownLimited, ownLifted, ownObjected, ownErase, ownCorrected, ownSame                                                     string
}

func wordsOf(language string) words {
	if language == "fr" {
		return words{
			joined:        "Vous avez rejoint la conversation. Répondez dans votre discussion privée avec ce robot.",
			restricted:    "utilisation limitée par le visiteur",
			restrictedSay: "Le visiteur a écrit, mais a limité l'utilisation de ses données : son message n'est montré à personne.",
			readFirst:     "Lisez d'abord l'information dans votre discussion privée avec ce robot et acceptez-la. La conversation vous est réservée cinq minutes.",
			ownData:       "Votre nom ou votre e-mail ont été montrés :",
			ownNever:      "Votre nom et votre e-mail n'ont été montrés à personne.",
			ownPartly:     "Seuls les enregistrements les plus récents sont comptés.",
			ownLink:       "Votre dossier, avec chaque affichage et une preuve (valable une fois, jusqu'à %s UTC) : %s",
			ownSent:       "Le lien est dans cette discussion.",
			ownNothing:    "Ni nom ni adresse ne sont conservés de vous.",
			ownLimited:    "L'utilisation de vos données est limitée : elles ne sont montrées qu'à vous, jusqu'à ce que vous leviez la limitation (mes données lever).",
			ownLifted:     "La limitation est levée.",
			ownObjected:   "Votre opposition est enregistrée. Jusqu'à la réponse, au plus tard le %s, vos données ne sont montrées qu'à vous.",
			ownErase:      "Votre demande d'effacement est enregistrée. Votre organisation répond au plus tard le %s.",
			ownCorrected:  "Votre nom est désormais conservé tel que votre profil Teams le donne, dans chaque conversation aussi.",
			ownSame:       "Votre nom est déjà conservé tel que votre profil Teams le donne. Votre organisation est chargée de le faire rectifier et répond au plus tard le %s.",
			taken:         "Quelqu'un d'autre a déjà rejoint cette conversation.",
			closed:        "Cette conversation est terminée.",
			gone:          "Cette conversation n'existe plus.",
			noProfile:     "Aucun profil d'agent ne correspond à votre adresse. Demandez à votre administrateur d'en créer un.",
			denied:        "La politique de votre organisation ne le permet pas.",
			unavailable:   "Rien ne peut être enregistré pour le moment, donc rien n'est montré. Réessayez dans un instant.",
			notJoined:     "Rejoignez d'abord la conversation avec le bouton de sa carte.",
			noCurrent:     "Vous n'avez pas de conversation en cours. Rejoignez-en une depuis le canal.",
			tooLong:       "Ce message est trop long (4 096 octets au plus). Il n'a pas été transmis.",
			refused:       "Ce message contient des caractères qui ne peuvent pas être transmis. Il n'a pas été envoyé.",
			noFiles:       "Les fichiers ne sont pas transmis.",
			replied:       "Envoyé au visiteur.",
			repeated:      "Déjà envoyé à l'instant ; rien n'est envoyé deux fois.",
			ended:         "Conversation terminée.",
			transferred:   "La conversation attend de nouveau dans le canal.",
			visitorEnded:  "Le visiteur a terminé la conversation.",
			youEnded:      "Vous avez terminé la conversation.",
			left:          "Vous avez rendu la conversation au canal.",
			doubt:         "Un message du visiteur ne vous est peut-être pas parvenu. Si quelque chose manque, demandez-lui de le répéter.",
			switched:      "Vos messages vont maintenant à cette conversation.",
			help:          "Écrivez ici pour répondre au visiteur. Commandes : chats (choisir une conversation), end (terminer), transfer (rendre au canal), mes données (ce qui est conservé de vous ; mes données dossier, rectifier, limiter, lever, opposer ou effacer pour demander), help.",
		}
	}
	return words{
		joined:        "You have joined. Answer in your 1:1 chat with this bot.",
		restricted:    "use restricted by the visitor",
		restrictedSay: "The visitor wrote, but has restricted the use of his data: his message is shown to nobody.",
		readFirst:     "First read the notice in your 1:1 chat with this bot and accept it. The conversation is kept for you for five minutes.",
		ownData:       "Your name or email was shown:",
		ownNever:      "Your name and email were shown to nobody.",
		ownPartly:     "Only the newest records are counted.",
		ownLink:       "Your file, with each time it was shown and a proof (works once, until %s UTC): %s",
		ownSent:       "The link is in this chat.",
		ownNothing:    "No name and no address is kept of you.",
		ownLimited:    "The use of your data is restricted: it is shown to nobody but you, until you lift that (my data lift).",
		ownLifted:     "The restriction is lifted.",
		ownObjected:   "Your objection is noted. Until it is answered, by %s at the latest, your data is shown to nobody but you.",
		ownErase:      "Your request for erasure is noted. Your organisation answers it by %s.",
		ownCorrected:  "Your name is now kept as your Teams profile gives it, in each conversation too.",
		ownSame:       "Your name is kept as your Teams profile gives it already. Your organisation was asked to have it corrected, and answers by %s.",
		taken:         "Somebody else has joined this conversation already.",
		closed:        "This conversation has ended.",
		gone:          "This conversation is no longer there.",
		noProfile:     "No agent profile has your email address. Ask your administrator to create one.",
		denied:        "Your organisation's policy does not allow this.",
		unavailable:   "Nothing can be recorded right now, so nothing is shown. Try again in a moment.",
		notJoined:     "Join the conversation first, with the button on its card.",
		noCurrent:     "You have no conversation right now. Join one from the channel.",
		tooLong:       "This message is too long (at most 4,096 bytes). It was not passed on.",
		refused:       "This message has characters that cannot be passed on. It was not sent.",
		noFiles:       "Files are not passed on.",
		replied:       "Sent to the visitor.",
		repeated:      "Sent already a moment ago; nothing is sent twice.",
		ended:         "Conversation ended.",
		transferred:   "The conversation waits in the channel again.",
		visitorEnded:  "The visitor has ended the conversation.",
		youEnded:      "You have ended the conversation.",
		left:          "You have given the conversation back to the channel.",
		doubt:         "A message of the visitor may not have reached you. If something seems missing, ask for it again.",
		switched:      "What you write now goes to this conversation.",
		help:          "Write here to answer the visitor. Commands: chats (choose a conversation), end, transfer (back to the channel), my data (what is kept of you; my data file, correct, restrict, lift, object or erase to ask), help.",
	}
}
