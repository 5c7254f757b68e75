// Requests to the service: the token of this tab, and the errors as messages for people.

const TOKEN = "shan-token";
const ATTEMPTS = 4;

// The message is the service's own, which contains the fix. `status` is 0 where the service did not respond.
export class ServiceError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// Stores the token until the tab is closed.
export function useToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

// Returns the response to a request. A busy service is asked again after the seconds of Retry-After, which `waiting`
// shows. Throws ServiceError for any other error, and AbortError if `signal` is aborted.
export async function request(path, options = {}, signal = undefined, waiting = () => {}) {
  for (let attempt = 1; ; attempt++) {
    const response = await respond(path, options, signal);
    if (response.ok) return response;
    const seconds = Number(response.headers.get("Retry-After"));
    if (![429, 503].includes(response.status) || !seconds || attempt === ATTEMPTS) throw await errorOf(response);
    waiting(seconds);
    await pause(seconds, signal);
  }
}

async function respond(path, options, signal) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  try {
    return await fetch(path, { ...options, headers, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError(0, "The service does not respond. Check the network, and try again.");
  }
}

async function errorOf(response) {
  const document = await response.json().catch(() => ({}));
  return new ServiceError(response.status, document.message || `The service responds with status ${response.status}.`);
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
