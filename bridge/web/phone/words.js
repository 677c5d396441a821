// What people read, in the languages of the page. `{x}` is filled in by `word`.

const WORDS = {
  en: {
    'signed-out': 'not signed in', 'connecting': 'connecting …', 'ready': 'ready', 'lost': 'connection lost, trying again …',
    'sign-out': 'Sign out', 'welcome': 'Your phone in the browser',
    'welcome-how': 'Open the sign-in link that your app has sent you. It is good once, and for a short while.',
    'tab-dial': 'Phone', 'tab-calls': 'Calls', 'tab-invites': 'Invitations',
    'balance': 'Balance', 'number': 'Number', 'call': 'Call', 'keys': 'Keypad', 'answer': 'Answer', 'reject': 'Reject',
    'mute': 'Mute', 'hangup': 'Hang up', 'no-calls': 'No calls yet.', 'more': 'Earlier calls',
    'bundle-left': '{name}: {left} of {units} left', 'bundle-flat': '{name}: unlimited',
    'state-idle': '', 'state-calling': 'calling …', 'state-ringing': 'ringing …', 'state-incoming': 'is calling you',
    'state-in-call': 'in call', 'state-ended': 'call ended',
    'unknown-number': 'unknown number',
    'quote-minute': '{price} a minute to {where}', 'quote-connect': ', {price} to connect', 'quote-bundle': '{where}: your bundle “{name}” pays',
    'quote-free': 'free: {where}', 'quote-on-net': 'a user of this app: free',
    'quote-enables': 'waits to use this app: your call can let them in, free', 'quote-lasts': ', lasts {time}',
    'quote-emergency': 'Emergency call: free, put through at once. Say where you are: this phone does not know.',
    'in-bundle': 'paid by your bundle',
    'media': 'sound: {sent} packets out, {received} in',
    'warn-low_balance': 'Your money ends in {time}.', 'warn-bundle_used_up': 'Your bundle is used up: money pays now.',
    'warn-cut_soon': 'This call ends in {time}.',
    'notice-low_balance': 'Your balance is low.', 'notice-no_credit': 'Your balance is empty.',
    'notice-spend_cap': 'Your spending limit is reached.', 'notice-account_suspended': 'Your account is suspended.',
    'notice-not_enabled': 'You cannot call out yet: you wait for an invitation, or for a call from somebody who can.',
    'standing-enabled': 'You can make calls.', 'standing-waiting': 'You are on the waiting list{place}.',
    'standing-out': 'You are not on the list of this app.',
    'standing-keyed': 'You are next: your app is ready, the network follows.', 'place': ', at place {n}',
    'window-open': 'Invitations are open until {until}.', 'window-open-endless': 'Invitations are open.',
    'window-planned': 'The next window opens at {from}.',
    'window-closed': 'No window is open: nobody can be let in just now.', 'window-launched': 'Everybody may use this app: no invitation is needed.',
    'window-none': 'There are no invitations in this app.',
    'invites-left': ' You may invite {n} more.',
    'invite-number': 'Invite somebody: their number', 'invite-send': 'Invite', 'accept-code': 'You were invited: your code', 'accept-send': 'Accept',
    'invite-sent': 'Invited: {number}. Code: {code}', 'accepted': 'Welcome: you can make calls.', 'accepted-keyed': 'The invitation is yours; the network follows soon.',
    'microphone': 'The browser may not use the microphone. Allow it for this page.',
    'session-over': 'You were signed out. Ask for a new sign-in link.',
    'link-bad': 'This sign-in link was used before, or its time is over. Ask for a new one.',
    'no-server': 'The server does not answer. Trying again …', 'too-many': 'Too many requests. Wait a moment.',
    'failed': 'The call failed ({why}).', 'voice-message': 'voice message, {time}',
    'out': 'outgoing', 'in': 'incoming', 'missed': 'missed', 'unanswered': 'not answered', 'live': 'in progress', 'free': 'free',
    // why a call did not happen: `reason` of the API, else what the network said
    'invalid_number': 'This is no number that can be called.', 'unknown_caller': 'Your number is not known here.',
    'account_suspended': 'Your account is suspended.',
    'not_invited': 'You are not enabled yet: you need an invitation while a window is open.',
    'barred_destination': 'This number is barred.', 'too_many_calls': 'You have as many calls as your account allows.',
    'no_credit': 'Your balance does not pay for this call.', 'spend_cap': 'Your spending limit is reached.',
    'no_rate': 'We do not sell calls to this place.', 'no_route': 'No carrier can be reached just now.',
    'own_number': 'This is your own number.', 'caller_id': 'You may only show your own number.',
    'not_reachable': 'The person you called cannot be reached.',
    'not_enabled': 'They are waiting for an invitation.', 'waits-keyed': 'They were invited, and the network follows soon.',
    'unknown_number': 'Nobody has this number.',
    'policy_class': 'This connection is not allowed.', 'overloaded': 'Too many calls just now. Try again in a moment.',
    'unavailable': 'The service is not available just now.',
    'busy': 'Busy.', 'no_answer': 'No answer.', 'declined': 'The call was declined.', 'not_found': 'Nobody has this number.',
    // why an invitation was not possible: `code` of the API
    'invite-no_window': 'Invitations are closed now.', 'invite-quota': 'This window is full.',
    'invite-wave': 'There is no room left for this country or kind of phone.', 'invite-limit': 'You have invited as many as you may.',
    'invite-depth': 'You cannot invite others.', 'invite-loop': 'You were invited by this person, directly or not.',
    'invite-self': 'This is your own number.', 'invite-enabled': 'This number is enabled already.',
    'invite-not_enabled': 'You are not enabled yet.', 'invite-no_rollout': 'There are no invitations in this app.',
    'invite-unknown': 'This code is not good, or not for your number.', 'invite-used': 'This code was used before.',
    'invite-expired': 'The time of this code is over.', 'invite-invalid_request': 'This is no number: write it like +49 30 ….',
  },
  de: {
    'signed-out': 'nicht angemeldet', 'connecting': 'verbindet …', 'ready': 'bereit', 'lost': 'Verbindung verloren, neuer Versuch …',
    'sign-out': 'Abmelden', 'welcome': 'Dein Telefon im Browser',
    'welcome-how': 'Öffne den Anmeldelink, den deine App geschickt hat. Er gilt einmal und nur kurze Zeit.',
    'tab-dial': 'Telefon', 'tab-calls': 'Anrufe', 'tab-invites': 'Einladungen',
    'balance': 'Guthaben', 'number': 'Nummer', 'call': 'Anrufen', 'keys': 'Tasten', 'answer': 'Annehmen', 'reject': 'Ablehnen',
    'mute': 'Stumm', 'hangup': 'Auflegen', 'no-calls': 'Noch keine Anrufe.', 'more': 'Frühere Anrufe',
    'bundle-left': '{name}: noch {left} von {units}', 'bundle-flat': '{name}: unbegrenzt',
    'state-idle': '', 'state-calling': 'wählt …', 'state-ringing': 'es klingelt …', 'state-incoming': 'ruft an',
    'state-in-call': 'im Gespräch', 'state-ended': 'Gespräch beendet',
    'unknown-number': 'unbekannte Nummer',
    'quote-minute': '{price} pro Minute nach {where}', 'quote-connect': ', {price} je Verbindung', 'quote-bundle': '{where}: dein Paket „{name}“ zahlt',
    'quote-free': 'kostenlos: {where}', 'quote-on-net': 'hat diese App auch: kostenlos',
    'quote-enables': 'wartet auf diese App: dein Anruf kann freischalten, kostenlos', 'quote-lasts': ', reicht {time}',
    'quote-emergency': 'Notruf: kostenlos und sofort. Sag, wo du bist: dieses Telefon weiß es nicht.',
    'in-bundle': 'zahlt dein Paket',
    'media': 'Ton: {sent} Pakete gesendet, {received} empfangen',
    'warn-low_balance': 'Dein Guthaben endet in {time}.', 'warn-bundle_used_up': 'Dein Paket ist aufgebraucht: jetzt zahlt das Guthaben.',
    'warn-cut_soon': 'Dieses Gespräch endet in {time}.',
    'notice-low_balance': 'Dein Guthaben ist niedrig.', 'notice-no_credit': 'Dein Guthaben ist leer.',
    'notice-spend_cap': 'Deine Ausgabengrenze ist erreicht.', 'notice-account_suspended': 'Dein Konto ist gesperrt.',
    'notice-not_enabled': 'Du kannst noch nicht anrufen: du wartest auf eine Einladung oder auf den Anruf von jemandem, der kann.',
    'standing-enabled': 'Du kannst telefonieren.', 'standing-waiting': 'Du stehst auf der Warteliste{place}.',
    'standing-out': 'Du stehst nicht auf der Liste dieser App.',
    'standing-keyed': 'Du bist als Nächstes dran: deine App ist bereit, das Netz folgt.', 'place': ', auf Platz {n}',
    'window-open': 'Einladungen sind bis {until} möglich.', 'window-open-endless': 'Einladungen sind möglich.',
    'window-planned': 'Das nächste Fenster öffnet um {from}.',
    'window-closed': 'Kein Fenster ist offen: gerade kann niemand dazukommen.', 'window-launched': 'Alle können diese App nutzen: keine Einladung nötig.',
    'window-none': 'In dieser App gibt es keine Einladungen.',
    'invites-left': ' Du kannst noch {n} einladen.',
    'invite-number': 'Jemanden einladen: die Nummer', 'invite-send': 'Einladen', 'accept-code': 'Du wurdest eingeladen: dein Code', 'accept-send': 'Annehmen',
    'invite-sent': 'Eingeladen: {number}. Code: {code}', 'accepted': 'Willkommen: du kannst telefonieren.', 'accepted-keyed': 'Die Einladung ist angenommen; das Netz folgt bald.',
    'microphone': 'Der Browser darf das Mikrofon nicht benutzen. Erlaube es für diese Seite.',
    'session-over': 'Du wurdest abgemeldet. Lass dir einen neuen Anmeldelink geben.',
    'link-bad': 'Dieser Anmeldelink wurde schon benutzt oder ist abgelaufen. Lass dir einen neuen geben.',
    'no-server': 'Der Server antwortet nicht. Neuer Versuch …', 'too-many': 'Zu viele Anfragen. Warte einen Moment.',
    'failed': 'Der Anruf ist fehlgeschlagen ({why}).', 'voice-message': 'Sprachnachricht, {time}',
    'out': 'ausgehend', 'in': 'eingehend', 'missed': 'verpasst', 'unanswered': 'nicht angenommen', 'live': 'läuft', 'free': 'kostenlos',
    'invalid_number': 'Das ist keine Nummer, die man anrufen kann.', 'unknown_caller': 'Deine Nummer ist hier nicht bekannt.',
    'account_suspended': 'Dein Konto ist gesperrt.',
    'not_invited': 'Du bist noch nicht freigeschaltet: du brauchst eine Einladung, während ein Fenster offen ist.',
    'barred_destination': 'Diese Nummer ist gesperrt.', 'too_many_calls': 'Du hast so viele Gespräche, wie dein Konto erlaubt.',
    'no_credit': 'Dein Guthaben reicht nicht für diesen Anruf.', 'spend_cap': 'Deine Ausgabengrenze ist erreicht.',
    'no_rate': 'Dorthin verkaufen wir keine Anrufe.', 'no_route': 'Gerade ist kein Netz dorthin erreichbar.',
    'own_number': 'Das ist deine eigene Nummer.', 'caller_id': 'Du darfst nur deine eigene Nummer zeigen.',
    'not_reachable': 'Die angerufene Person ist nicht erreichbar.',
    'not_enabled': 'Die angerufene Person wartet auf eine Einladung.', 'waits-keyed': 'Sie ist eingeladen, und das Netz folgt bald.',
    'unknown_number': 'Niemand hat diese Nummer.',
    'policy_class': 'Diese Verbindung ist nicht erlaubt.', 'overloaded': 'Gerade zu viele Anrufe. Versuch es gleich noch einmal.',
    'unavailable': 'Der Dienst ist gerade nicht verfügbar.',
    'busy': 'Besetzt.', 'no_answer': 'Keine Antwort.', 'declined': 'Der Anruf wurde abgelehnt.', 'not_found': 'Niemand hat diese Nummer.',
    'invite-no_window': 'Einladungen sind zurzeit geschlossen.', 'invite-quota': 'Dieses Fenster ist voll.',
    'invite-wave': 'Für dieses Land oder diese Art Telefon ist kein Platz mehr.', 'invite-limit': 'Du hast so viele eingeladen, wie du darfst.',
    'invite-depth': 'Du kannst niemanden einladen.', 'invite-loop': 'Diese Person hat dich eingeladen, direkt oder nicht.',
    'invite-self': 'Das ist deine eigene Nummer.', 'invite-enabled': 'Diese Nummer ist schon freigeschaltet.',
    'invite-not_enabled': 'Du bist noch nicht freigeschaltet.', 'invite-no_rollout': 'In dieser App gibt es keine Einladungen.',
    'invite-unknown': 'Dieser Code gilt nicht, oder nicht für deine Nummer.', 'invite-used': 'Dieser Code wurde schon benutzt.',
    'invite-expired': 'Die Zeit dieses Codes ist um.', 'invite-invalid_request': 'Das ist keine Nummer: schreib sie wie +49 30 ….',
  },
};

export const LANGUAGES = { en: 'English', de: 'Deutsch' };
const KEPT = 'callbridge.language';

let language = localStorage.getItem(KEPT) in WORDS ? localStorage.getItem(KEPT)
  : navigator.languages?.some((one) => /^de\b/i.test(one)) && !/^en\b/i.test(navigator.language) ? 'de' : 'en';

export const spoken = () => language;

export function speak(next) {
  language = next;
  localStorage.setItem(KEPT, next);
}

/** A word, with `{x}` filled in; the key itself where there is none. */
export function word(key, given = {}) {
  const text = WORDS[language][key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => given[name] ?? '');
}

export const known = (key) => key in WORDS.en;

/** A decimal string of money as people read it: cents keep their fractions. */
export function money(amount, currency) {
  const cents = Math.abs(Number(amount)) < 1 && amount.replace(/^-?0\.?/, '').length > 2;
  return new Intl.NumberFormat(language, { style: 'currency', currency, minimumFractionDigits: 2, maximumFractionDigits: cents ? 4 : 2 })
    .format(amount);
}

/** Seconds as m:ss, or h:mm:ss. */
export function clock(seconds) {
  const s = Math.max(0, Math.floor(seconds)), two = (n) => String(n).padStart(2, '0');
  return s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)}` : `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
}

export const instant = (text) => new Date(text).toLocaleString(language, { dateStyle: 'short', timeStyle: 'short' });
