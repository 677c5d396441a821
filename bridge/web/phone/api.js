// The phone's way to the bridge: JSON under /phone/api. The session lives as long as the tab.

const KEPT = 'callbridge.session';

export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.detail ?? `HTTP ${status}`);
    this.status = status;
    this.code = problem.code ?? '';
  }
}

export class Api {
  /** over: called when the session has ended, whoever ended it. */
  constructor(over) {
    this.over = over;
    this.session = sessionStorage.getItem(KEPT);
  }

  /** A sign-in link's token for a session. */
  async signIn(token) {
    const made = await this.ask('POST', 'session', { token });
    this.session = made.session;
    sessionStorage.setItem(KEPT, made.session);
  }

  async signOut() {
    if (this.session) await this.ask('DELETE', 'session').catch(() => {});
    this.forget();
  }

  forget() {
    this.session = null;
    sessionStorage.removeItem(KEPT);
  }

  /** @throws ApiError; status 0: the server did not answer */
  async ask(method, path, body, as = 'json') {
    const headers = { Accept: 'application/json' };
    if (body) headers['Content-Type'] = 'application/json';
    if (this.session) headers.Authorization = `Bearer ${this.session}`;
    let answer;
    try {
      answer = await fetch(`/phone/api/${path}`, {
        method, headers, body: body && JSON.stringify(body), credentials: 'omit', cache: 'no-store', signal: AbortSignal.timeout(10_000),
      });
    } catch {
      throw new ApiError(0, {});
    }
    if (answer.status === 204) return null;
    if (answer.ok && as !== 'json') return answer[as]();
    const said = await answer.json().catch(() => ({}));
    if (answer.ok) return said;
    if (answer.status === 401 && this.session) {
      this.forget();
      this.over();
    }
    throw new ApiError(answer.status, said);
  }

  get = (path) => this.ask('GET', path);
  post = (path, body) => this.ask('POST', path, body);
  sound = (message) => this.ask('GET', `messages/${message}/audio`, null, 'blob');
}
