// The SIP side, on JsSIP: one registration, one call at a time. What happens is told as events with `detail`.
//   line      {state: connecting | ready | lost}
//   incoming  {number}            somebody calls
//   progress  {state}             calling | ringing | in-call
//   ended     {status, cause, by, callId}   by: local | remote | system; status: the SIP status of a call that failed
//   sound     {sent, received}    RTP packets so far, once a second

import JsSIP from 'jssip';

const ICE_WAIT_MS = 800; // no candidate for so long: what there is, is sent

export class Sip extends EventTarget {
  constructor(audio) {
    super();
    this.audio = audio;
    this.ua = null;
    this.call = null;
  }

  tell(name, detail = {}) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /** Register with `credentials` of the API; again with newer ones: calls go on. */
  connect({ username, password, realm, url }) {
    if (this.ua) {
      this.ua.set('password', password);
      if (!this.ua.isRegistered()) this.ua.register();
      return;
    }
    this.ua = new JsSIP.UA({
      sockets: [new JsSIP.WebSocketInterface(url)],
      uri: `sip:${username}@${realm}`,
      authorization_user: username,
      password,
      register_expires: 120,
      session_timers: false,
      connection_recovery_min_interval: 1,
      connection_recovery_max_interval: 10,
      user_agent: 'callbridge phone',
    });
    this.ua.on('connecting', () => this.tell('line', { state: 'connecting' }));
    this.ua.on('registered', () => this.tell('line', { state: 'ready' }));
    this.ua.on('disconnected', () => this.tell('line', { state: 'lost' }));
    this.ua.on('unregistered', () => this.tell('line', { state: 'lost' }));
    this.ua.on('registrationFailed', ({ response }) => this.tell('line', { state: 'lost', status: response?.status_code }));
    this.ua.on('newRTCSession', ({ originator, session, request }) => {
      if (originator === 'remote') this.incoming(session, request);
    });
    this.ua.start();
  }

  disconnect() {
    this.ua?.stop();
    this.ua = null;
    this.tell('line', { state: 'signed-out' });
  }

  /** anonymous: the other side is not shown our number. */
  dial(number, { anonymous = false } = {}) {
    if (this.call || !this.ua) return;
    const session = this.ua.call(`sip:${number}@${this.ua.configuration.uri.host}`, {
      ...this.media(),
      extraHeaders: anonymous ? ['Privacy: id'] : [],
      eventHandlers: { peerconnection: ({ peerconnection }) => this.listen(peerconnection) },
    });
    this.follow(session);
    this.tell('progress', { state: 'calling' });
  }

  answer() {
    this.call?.answer(this.media());
  }

  /** Ends whatever there is: rings out, rejects, hangs up. */
  hangup() {
    this.call?.terminate(this.call.direction === 'incoming' && !this.call.isEstablished() ? { status_code: 603 } : {});
  }

  /** Returns whether it is muted now. */
  toggleMute() {
    if (!this.call) return false;
    if (this.call.isMuted().audio) this.call.unmute({ audio: true });
    else this.call.mute({ audio: true });
    return this.call.isMuted().audio;
  }

  /** A key during a call, as RFC 4733 events. */
  press(key) {
    if (this.call?.isEstablished()) this.call.sendDTMF(key, { transportType: 'RFC2833', duration: 120, interToneGap: 70 });
  }

  // ---------------------------------------------------------------- what is not for others

  media() {
    return { mediaConstraints: { audio: true, video: false }, pcConfig: { iceServers: [] } };
  }

  incoming(session, request) {
    if (this.call) {
      session.terminate({ status_code: 486 });
      return;
    }
    session.on('peerconnection', ({ peerconnection }) => this.listen(peerconnection));
    this.follow(session);
    const user = request.from.uri.user ?? '';
    this.tell('incoming', { number: /^\+?\d+$/.test(user) ? user : '' });
  }

  follow(session) {
    this.call = session;
    let waiting;
    session.on('icecandidate', ({ ready }) => {
      clearTimeout(waiting);
      waiting = setTimeout(ready, ICE_WAIT_MS);
    });
    session.on('progress', ({ originator }) => originator === 'remote' && this.tell('progress', { state: 'ringing' }));
    session.on('confirmed', () => this.tell('progress', { state: 'in-call' }));
    const over = ({ originator, cause, message }) => {
      clearTimeout(waiting);
      clearInterval(this.counting);
      this.call = null;
      this.audio.srcObject = null;
      this.tell('ended', { status: message?.status_code, cause, by: originator, callId: session.direction === 'outgoing' ? session._request?.call_id : null });
    };
    session.on('ended', over);
    session.on('failed', over);
  }

  /** Play what comes in, and count packets both ways. */
  listen(connection) {
    connection.addEventListener('track', ({ streams, track }) => {
      this.audio.srcObject = streams[0] ?? new MediaStream([track]);
    });
    this.counting = setInterval(async () => {
      let sent = 0, received = 0;
      for (const one of (await connection.getStats()).values()) {
        if (one.type === 'outbound-rtp') sent += one.packetsSent;
        if (one.type === 'inbound-rtp') received += one.packetsReceived;
      }
      this.tell('sound', { sent, received });
    }, 1000);
  }
}
