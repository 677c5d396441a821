// What is on the page. Text goes in as text, never as markup.

import { clock, instant, known, money, spoken, word, LANGUAGES } from './words.js';

export const at = (id) => document.getElementById(id);

export function show(id, visible = true) {
  at(id).hidden = !visible;
}

/** A text that people read, and beside it the state that programs read. */
export function say(id, text, state) {
  const element = at(id);
  if (element.textContent !== text) element.textContent = text; // the same again is not read out again
  if (state !== undefined) element.dataset.state = state;
}

/** Every fixed word on the page, in the language of now. */
export function translate() {
  document.documentElement.lang = spoken();
  for (const element of document.querySelectorAll('[data-word]')) element.textContent = word(element.dataset.word);
  for (const element of document.querySelectorAll('[data-word-label]')) element.setAttribute('aria-label', word(element.dataset.wordLabel));
  const other = Object.keys(LANGUAGES).find((one) => one !== spoken());
  const language = at('language');
  language.textContent = other.toUpperCase();
  Object.assign(language, { lang: other, ariaLabel: LANGUAGES[other], title: LANGUAGES[other] });
}

function made(name, given = {}, ...inner) {
  const element = document.createElement(name);
  const { data = {}, ...rest } = given;
  Object.assign(element, rest);
  Object.assign(element.dataset, data);
  element.append(...inner);
  return element;
}

const LETTERS = ['', 'ABC', 'DEF', 'GHI', 'JKL', 'MNO', 'PQRS', 'TUV', 'WXYZ', '', '+', ''];

export function keypad(press) {
  at('keys').replaceChildren(...[...'123456789*0#'].map((key, place) =>
    made('button', { type: 'button', data: { testid: `dtmf-${key}` }, onclick: () => press(key), ariaLabel: key },
      key, made('small', {}, LETTERS[place]))));
}

/** Tabs as WAI-ARIA has them: arrow keys go from one to the next. chosen: told the id of the panel. */
export function tabs(chosen) {
  const all = [...document.querySelectorAll('[role=tab]')];
  const choose = (tab) => {
    for (const one of all) {
      const selected = one === tab;
      one.setAttribute('aria-selected', selected);
      one.tabIndex = selected ? 0 : -1;
      show(one.getAttribute('aria-controls'), selected);
    }
    chosen(tab.getAttribute('aria-controls'));
  };
  for (const tab of all) tab.addEventListener('click', () => choose(tab));
  at('tabs').addEventListener('keydown', ({ key }) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
    if (!step) return;
    const next = all[(all.indexOf(document.activeElement) + step + all.length) % all.length];
    next.focus();
    choose(next);
  });
  return (panel) => choose(all.find((one) => one.getAttribute('aria-controls') === panel));
}

/** me: as GET me tells it. */
export function account(me) {
  say('number', me.number);
  say('balance', money(me.balance, me.currency));
  const said = (me.enabled ? me.warnings : ['not_enabled']).map((one) => word(`notice-${one}`));
  show('notice', said.length > 0);
  say('notice', said.join(' '));
  at('bundles').replaceChildren(...me.bundles.map((one) => made('li', {},
    word(one.units === null ? 'bundle-flat' : 'bundle-left', { name: one.name, left: one.left_units, units: one.units }))));
}

/** Why a call was or would be refused. detail: what keeps out a callee who waits; opens_at: of the next window. */
export function refused({ reason, detail, opens_at: from }) {
  if (!detail) return word(reason);
  const key = known(`waits-${detail}`) ? `waits-${detail}` : `invite-${detail}`;
  return [word(reason), word(key), ...(from ? [word('window-planned', { from: instant(from) })] : [])].join(' ');
}

/** What a quote says, in one line. */
export function quoted(told) {
  if (told.verdict === 'emergency') return word('quote-emergency');
  if (told.verdict === 'refused') return refused(told);
  const where = told.destination ?? told.number;
  if (told.on_net) return word(told.enables ? 'quote-enables' : 'quote-on-net');
  if (told.free) return word('quote-free', { where });
  const price = word('quote-minute', { price: money(told.minute, told.currency), where });
  const connect = Number(told.connect_fee) ? word('quote-connect', { price: money(told.connect_fee, told.currency) }) : '';
  if (told.bundle) return `${word('quote-bundle', { where, name: told.bundle })} (${price}${connect})`;
  return price + connect + (told.lasts_s === null ? '' : word('quote-lasts', { time: clock(told.lasts_s) }));
}

/** The calls of a page of GET calls. chosen: told the number of one that is picked; heard: the voice message. */
export function rows(calls, chosen, heard) {
  return calls.map((one) => {
    const number = one.number ?? word('unknown-number');
    const name = { incoming: 'in', outgoing: 'out' }[one.direction];
    const end = one.state === 'answered' ? clock(one.talk_s) : one.missed ? word('missed') : one.state === 'live' ? word('live')
      : one.reason ? word(one.reason) : word('unanswered');
    const cost = one.cost === null ? '' : Number(one.cost) ? money(one.cost, one.currency) : one.state === 'answered' ? word(one.in_bundle ? 'in-bundle' : 'free') : '';
    return made('li', { className: one.missed ? 'missed' : name, data: { testid: 'history-row', state: one.state, direction: one.direction, number: one.number ?? '', cost: one.cost ?? '' } },
      made('button', { type: 'button', className: 'quiet', disabled: !one.number, onclick: () => chosen(one.number) },
        made('b', {}, number), made('small', {}, `${word(name)} · ${instant(one.began_at)}`)),
      made('span', { className: 'end' }, made('span', {}, end), made('small', {}, cost),
        ...(one.message ? [made('button', { type: 'button', className: 'quiet', data: { testid: 'voice-message' }, onclick: () => heard(one.message.message_id) },
          word('voice-message', { time: clock(one.message.length_s) }))] : [])));
  });
}
