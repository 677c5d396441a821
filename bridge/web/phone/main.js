// The browser phone: a reference client of /phone/api and of the switch's WebSocket.
//
// For tests, by data-testid (texts are translated; states are not):
//   sign-in-state   data-state: signed-out | connecting | ready | lost
//   dial-number, call-button, quote (data-verdict: admitted | refused | emergency; data-reason, data-detail), balance, bundles
//   call-state      data-state: idle | calling | ringing | incoming | in-call | ended
//   peer, call-timer (m:ss), call-cost (data-cost: decimal string), hangup, answer, reject, mute (aria-pressed)
//   dtmf-0 … dtmf-9, dtmf-*, dtmf-#   dials when idle, sends the tone in a call
//   warning         data-warnings: of low_balance, bundle_used_up, cut_soon, with spaces between; hidden when none
//   media           data-sent, data-received: RTP packets
//   history-row     data-state, data-direction (incoming | outgoing), data-number, data-cost; voice-message inside
//   invite-number, invite-send, accept-code, accept-send
//   invite-status   data-state: sent | activated | keyed | enabled, or the code of the refusal: no_window, quota, used …
//   standing        data-state: enabled | waiting | keyed | out
//   window-state    data-state: open | planned | closed | launched | none
//   message         data-reason: why a call or a request was refused; hidden when there is nothing to say
//                   data-detail: of not_enabled, what keeps the callee out: no_window | quota | limit | wave | loop | keyed
//   Tabs are #tab-dial, #tab-calls, #tab-invites.

import { Api } from './api.js';
import { Sip } from './sip.js';
import { ring } from './tone.js';
import { account, at, keypad, quoted, refused, rows, say, show, tabs, translate } from './view.js';
import { clock, instant, known, money, speak, spoken, word } from './words.js';

const POLL_MS = 2000;
const QUOTE_AFTER_MS = 300;
const SETTLE_MS = 700, SETTLE_TRIES = 15;
const STATUS = { 403: 'declined', 404: 'not_found', 480: 'not_reachable', 486: 'busy', 408: 'no_answer', 487: 'no_answer', 503: 'unavailable', 603: 'declined' };

const api = new Api(() => leave('session-over'));
const phone = new Sip(at('far'));
let begun = null; // when the call was answered, by our clock; the bridge's figures correct it
let polling, ticking, renewing, settling, quiet = () => {};
let cursor = null;

// ---------------------------------------------------------------- signing in and out

async function start() {
  translate();
  keypad(press);
  const token = location.hash.slice(1);
  if (token) history.replaceState(null, '', location.pathname); // it is good once: nobody needs to see it
  try {
    if (token) {
      api.forget();
      await api.signIn(token);
    }
    if (api.session) await enter();
  } catch (error) {
    complain(token && error.status === 401 ? 'link-bad' : why(error));
  }
}

async function enter() {
  await refresh();
  show('welcome', false);
  show('signed-in');
  show('sign-out');
  await register();
}

/** Credentials are short-lived: newer ones are fetched when four fifths of their time are over. */
async function register() {
  clearTimeout(renewing);
  let wait_s = 5;
  try {
    const credentials = await api.post('credentials');
    phone.connect(credentials);
    wait_s = Math.max(5, (new Date(credentials.expires_at) - Date.now()) / 1000 * 0.8);
  } catch (error) {
    if (!api.session) return;
    line('lost');
  }
  renewing = setTimeout(register, wait_s * 1000);
}

/** Signed out, by choice or because the session is over. */
function leave(reason) {
  clearTimeout(renewing);
  phone.hangup();
  phone.disconnect();
  show('signed-in', false);
  show('sign-out', false);
  show('welcome');
  say('number', 'callbridge');
  complain(reason);
}

function line(state) {
  at('line').dataset.word = state;
  say('line', word(state), state);
}

async function refresh() {
  account(await api.get('me'));
}

// ---------------------------------------------------------------- messages

/** Tell the user, or with nothing to tell, no longer. told: of a refused call, as the API tells it. */
function complain(reason, told = {}) {
  show('message', Boolean(reason));
  Object.assign(at('message').dataset, { reason: reason ?? '', detail: told.detail ?? '' });
  say('message', reason ? refused({ ...told, reason }) : '');
}

const why = (error) => ({ 0: 'no-server', 429: 'too-many', 503: 'unavailable' })[error.status] ?? (known(error.code) ? error.code : error.message);

// ---------------------------------------------------------------- before the call

let asking, asked = 0;

function wanted() {
  return at('dial-number').value.replace(/[\s()/.-]/g, '');
}

/** What it will cost, a moment after the last key. */
function askQuote() {
  clearTimeout(asking);
  const number = wanted(), turn = ++asked;
  if (number.length < 3) return quote(null);
  asking = setTimeout(async () => {
    const told = await api.get(`quote?to=${encodeURIComponent(number)}`).catch(() => null);
    if (turn === asked) quote(told);
  }, QUOTE_AFTER_MS);
}

function quote(told) {
  at('quote').dataset.verdict = told?.verdict ?? '';
  Object.assign(at('quote').dataset, { reason: told?.reason ?? '', detail: told?.detail ?? '' });
  say('quote', told ? quoted(told) : '');
}

function press(key) {
  if (phone.call) return phone.press(key);
  at('dial-number').value += key;
  askQuote();
}

// ---------------------------------------------------------------- the call

function state(name) {
  const live = Boolean(phone.call), incoming = name === 'incoming';
  say('call-state', word(`state-${name}`), name);
  show('call', name !== 'idle');
  show('dialler', !live);
  show('answer', incoming);
  show('reject', incoming);
  show('hangup', live && !incoming);
  show('mute', name === 'in-call');
  quiet();
  quiet = incoming ? ring(0.2) : () => {};
}

function begin(number) {
  clearTimeout(settling);
  complain();
  open('dial');
  say('peer', number || word('unknown-number'));
  say('call-timer', '0:00');
  cost(null);
  warn([]);
  sound({ sent: 0, received: 0 });
  at('mute').setAttribute('aria-pressed', false);
}

function talk() {
  begun = Date.now();
  ticking = setInterval(() => say('call-timer', clock((Date.now() - begun) / 1000)), 250);
  follow();
}

/** The bridge's figures of the running call. */
async function follow() {
  const now = await api.get('calls/current').catch(() => null);
  if (begun === null) return;
  if (now?.call?.talk_s != null) begun = Date.now() - now.call.talk_s * 1000;
  if (now?.call) {
    cost(now.call);
    warn(now.call.warnings, now.call.left_s);
  }
  polling = setTimeout(follow, POLL_MS);
}

function cost(call) {
  at('call-cost').dataset.cost = call?.cost ?? '';
  say('call-cost', call?.cost == null ? '' : call.in_bundle && !Number(call.cost) ? word('in-bundle') : call.free ? word('free') : money(call.cost, call.currency));
}

function warn(warnings, left_s = 0) {
  show('warning', warnings.length > 0);
  at('warning').dataset.warnings = warnings.join(' ');
  say('warning', warnings.map((one) => word(`warn-${one}`, { time: clock(Math.ceil(left_s / 5) * 5) })).join(' '));
}

function sound({ sent, received }) {
  Object.assign(at('media').dataset, { sent, received });
  say('media', received ? word('media', { sent, received }) : '');
}

/** Why a call was not: the bridge knows it by the call's SIP Call-ID, else the network's status says something. */
async function ended({ status, cause, by, callId }) {
  clearInterval(ticking);
  clearTimeout(polling);
  const talked = begun !== null;
  begun = null;
  warn([]);
  state('ended');
  if (cause === 'User Denied Media Access') complain('microphone');
  else if (!talked && by !== 'local' && callId) {
    const { call } = await api.get(`calls/of?sip_call_id=${encodeURIComponent(callId)}`).catch(() => ({}));
    complain(call?.reason ?? STATUS[status] ?? 'unavailable', call ?? {});
  }
  if (api.session) settle(SETTLE_TRIES);
}

/** The bridge hears of the end from the switch a moment later: then the balance and the history are as they stay. */
async function settle(tries) {
  const page = await api.get('calls?limit=1').catch(() => null);
  if (page?.data[0]?.state === 'live' && tries > 1) {
    settling = setTimeout(settle, SETTLE_MS, tries - 1);
    return;
  }
  if (!api.session) return;
  await refresh().catch(() => {});
  askQuote();
  if (!phone.call && page?.data[0]) cost({ ...page.data[0], free: Number(page.data[0].cost) === 0 });
  if (!at('calls').hidden) await history_(false).catch(() => {});
}

// ---------------------------------------------------------------- history and invitations

async function history_(more) {
  const page = await api.get(`calls?limit=20${more ? `&cursor=${cursor}` : ''}`);
  const made = rows(page.data, (number) => {
    open('dial');
    at('dial-number').value = number;
    askQuote();
    at('dial-number').focus();
  }, (message) => play(message).catch((error) => complain(why(error))));
  if (more) at('history').append(...made);
  else at('history').replaceChildren(...made);
  cursor = page.next;
  show('more', cursor !== null);
  show('no-calls', at('history').children.length === 0);
}

async function play(message) {
  const said = new Audio(URL.createObjectURL(await api.sound(message)));
  said.addEventListener('ended', () => URL.revokeObjectURL(said.src));
  await said.play();
}

async function standing() {
  const told = await api.get('invites');
  const { window: w, standing: s } = told;
  say('standing', word(`standing-${s}`, { place: told.place ? word('place', { n: told.place }) : '' }), s);
  const key = w.state === 'open' && !w.closes_at ? 'window-open-endless' : `window-${w.state}`;
  say('window-state', word(key, { until: w.closes_at && instant(w.closes_at), from: w.opens_at && instant(w.opens_at) })
    + (told.may_invite && told.left !== null ? word('invites-left', { n: told.left }) : ''), w.state);
  show('inviter', told.may_invite);
  show('accepter', s !== 'enabled');
}

/** Do what an invitation form asks, and say what came of it. */
async function invitation(done, work) {
  try {
    const told = await work();
    await Promise.all([standing(), refresh()]);
    say('invite-status', word(told.state === 'keyed' ? 'accepted-keyed' : done, told), told.state ?? 'sent');
  } catch (error) {
    say('invite-status', word(known(`invite-${error.code}`) ? `invite-${error.code}` : why(error)), error.code);
  }
}

// ---------------------------------------------------------------- wiring

const open = tabs((panel) => {
  const load = { calls: () => history_(false), invites: standing }[panel];
  if (load && api.session) load().catch((error) => complain(why(error)));
});

const on = (id, name, work) => at(id).addEventListener(name, (event) => {
  event.preventDefault();
  work();
});

on('language', 'click', () => {
  speak(spoken() === 'de' ? 'en' : 'de');
  translate();
  if (api.session) refresh().catch(() => {});
  askQuote();
});
on('sign-out', 'click', () => api.signOut().then(() => leave()));
at('dial-number').addEventListener('input', askQuote);
on('dialler', 'submit', () => {
  const number = wanted();
  if (!number || phone.call) return;
  begin(number);
  phone.dial(number);
});
on('answer', 'click', () => phone.answer());
on('reject', 'click', () => phone.hangup());
on('hangup', 'click', () => phone.hangup());
on('mute', 'click', () => at('mute').setAttribute('aria-pressed', phone.toggleMute()));
on('more', 'click', () => history_(true).catch((error) => complain(why(error))));
on('inviter', 'submit', () => invitation('invite-sent', () => api.post('invites', { number: at('invite-number').value.replace(/[\s()/.-]/g, '') })));
on('accepter', 'submit', () => invitation('accepted', () => api.post('invites/accept', { code: at('accept-code').value.trim() })));
document.addEventListener('keydown', ({ key, target, ctrlKey, metaKey, altKey }) => {
  if (!phone.call || target.matches('input') || ctrlKey || metaKey || altKey) return;
  if (/^[0-9*#]$/.test(key)) phone.press(key);
  if (key === 'Escape') phone.hangup();
});

phone.addEventListener('line', ({ detail }) => {
  line(detail.state);
  if (detail.status === 401 || detail.status === 403) setTimeout(register, 5000); // the password is over: take a new one
});
phone.addEventListener('incoming', ({ detail }) => {
  begin(detail.number);
  state('incoming');
  at('answer').focus();
});
phone.addEventListener('progress', ({ detail }) => {
  state(detail.state);
  if (detail.state === 'in-call') talk();
});
phone.addEventListener('sound', ({ detail }) => sound(detail));
phone.addEventListener('ended', ({ detail }) => ended(detail));
window.addEventListener('hashchange', () => location.hash.length > 1 && location.reload());

start();
