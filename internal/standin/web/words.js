// Every word of the page in its two languages. {x} is filled in by the caller.
const words = {
  en: {
    banner: "Teams stand-in: for try-out only, nothing here is Microsoft Teams.",
    banner2: "The people are made up; what you type stays on this machine.",
    panes: "Show", channel: "Channel", chat: "Chat", more: "More", language: "Language", youAre: "You are",
    notInstalled: "The app is not in this team yet. It is added by itself as soon as the bot answers.",
    install: "Install the app", faults: "Faults", faultKind: "The next calls of the bot", throttle: "are turned away (429)",
    error: "fail (500)", stall: "are carried out, but never answered", faultCalls: "Calls", arm: "Arm",
    armed: "Armed for {n}: calls {kind}.", calm: "No fault is armed.", latency: "Delay in both directions, ms",
    duplicate: "Deliver the next activity twice", oldClient: "I use an old Teams (Action.Submit)",
    blocked: "I have blocked the bot", write: "Message to {bot}", keys: "Enter sends, Shift+Enter starts a new line", send: "Send",
    emptyChannel: "Nothing has been posted here.", emptyChannel2: "A card appears when a visitor starts a chat.",
    emptyChat: "This is {name}’s chat with {bot}.", emptyChat2: "Join a conversation in the channel, then answer here.",
    typing: "{bot} is typing…", app: "App", edited: "Edited", deleted: "This message was deleted.", reply: "Reply in thread",
    replyLabel: "Reply in the thread", mention: "Mention {bot}", mentionWhy: "(otherwise the bot does not see it)", cancel: "Cancel",
    sending: "Sending…", undelivered: "The bot did not take this message", refused: "The bot refused this message",
    required: "Please fill this in.", lost: "Connection lost, trying again…", failed: "That did not work: {why}",
    unread: "{n} unread", choose: "Choose…", unsupported: "[{type} is not shown here]",
  },
  fr: {
    banner: "Doublure de Teams : pour essai seulement, rien ici n’est Microsoft Teams.",
    banner2: "Les personnes sont fictives ; ce que vous écrivez reste sur cette machine.",
    panes: "Afficher", channel: "Canal", chat: "Conversation", more: "Plus", language: "Langue", youAre: "Vous êtes",
    notInstalled: "L’application n’est pas encore dans cette équipe. Elle s’ajoute d’elle-même dès que le bot répond.",
    install: "Installer l’application", faults: "Pannes", faultKind: "Les prochains appels du bot", throttle: "sont repoussés (429)",
    error: "échouent (500)", stall: "sont exécutés, mais restent sans réponse", faultCalls: "Appels", arm: "Armer",
    armed: "Armé pour {n} : les appels {kind}.", calm: "Aucune panne n’est armée.", latency: "Délai dans les deux sens, en ms",
    duplicate: "Livrer deux fois la prochaine activité", oldClient: "J’utilise un ancien Teams (Action.Submit)",
    blocked: "J’ai bloqué le bot", write: "Message à {bot}", keys: "Entrée envoie, Maj+Entrée va à la ligne", send: "Envoyer",
    emptyChannel: "Rien n’a encore été publié ici.", emptyChannel2: "Une carte apparaît quand un visiteur ouvre une conversation.",
    emptyChat: "Voici la conversation entre {name} et {bot}.", emptyChat2: "Rejoignez une conversation dans le canal, puis répondez ici.",
    typing: "{bot} écrit…", app: "Appli", edited: "Modifié", deleted: "Ce message a été supprimé.", reply: "Répondre dans le fil",
    replyLabel: "Réponse dans le fil", mention: "Mentionner {bot}", mentionWhy: "(sinon le bot ne la voit pas)", cancel: "Annuler",
    sending: "Envoi…", undelivered: "Le bot n’a pas pris ce message", refused: "Le bot a refusé ce message",
    required: "Veuillez remplir ce champ.", lost: "Connexion perdue, nouvel essai…", failed: "Cela n’a pas marché : {why}",
    unread: "{n} non lus", choose: "Choisir…", unsupported: "[{type} ne s’affiche pas ici]",
  },
};

let current = localStorage.getItem("standin-language") ?? (navigator.language.startsWith("fr") ? "fr" : "en");
if (!(current in words)) current = "en";

export const language = () => current;

export function setLanguage(lang) {
  current = lang;
  localStorage.setItem("standin-language", lang);
}

export function t(key, fill = {}) {
  return words[current][key].replace(/\{(\w+)\}/g, (_, name) => fill[name] ?? "");
}
