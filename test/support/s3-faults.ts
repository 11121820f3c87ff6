/** What goes wrong between a client and an S3 service, put around the client's own way of sending requests. */
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import type { S3Client } from '@aws-sdk/client-s3';

type Handler = S3Client['config']['requestHandler'];
type Request = Parameters<Handler['handle']>[0];
type Answer = Awaited<ReturnType<Handler['handle']>>;
type Send = () => Promise<Answer>;

/** Answers a request in place of the service; `send` sends it. `occurrence` counts, from 1, how often this very request was made. */
export type Fault = (request: Request, send: Send, occurrence: number) => Promise<Answer>;

export function withFault(client: S3Client, fault: Fault): S3Client {
  const inner = client.config.requestHandler;
  const seen = new Map<string, number>();
  const handle: Handler['handle'] = (request, options) => {
    const key = JSON.stringify([request.method, request.path, request.query, request.headers['range']]);
    const occurrence = (seen.get(key) ?? 0) + 1;
    seen.set(key, occurrence);
    return fault(request, () => inner.handle(request, options), occurrence);
  };
  client.config.requestHandler = new Proxy(inner, {
    get(target, property) {
      if (property === 'handle') return handle;
      const value: unknown = Reflect.get(target, property, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
  return client;
}

/** The first time only: what is sent again arrives. */
const once =
  (applies: (request: Request) => boolean, fault: Fault): Fault =>
  (request, send, occurrence) =>
    occurrence === 1 && applies(request) ? fault(request, send, occurrence) : send();

const always = (): boolean => true;
const isGet = ({ method }: Request): boolean => method === 'GET';
const changes = ({ method }: Request): boolean => method === 'PUT' || method === 'DELETE';
/** A bucket is listed by a GET of its path alone. */
const isListing = (request: Request): boolean =>
  isGet(request) && ('list-type' in (request.query ?? {}) || 'versions' in (request.query ?? {}));

export const busy: Fault = once(always, () => Promise.resolve(xml(503, '<Error><Code>SlowDown</Code></Error>')));

export const slow: Fault = async (_, send) => {
  await delay(30);
  return send();
};

/** The connection is cut in the middle of the body. */
export const truncated: Fault = once(isGet, async (_, send) => {
  const answer = await send();
  const whole = await buffer(answer.response.body as Readable);
  const half = whole.subarray(0, whole.length >> 1);
  answer.response.body = Readable.from(
    (function* () {
      yield half;
      throw Object.assign(new Error('aborted'), { code: 'ECONNRESET' });
    })(),
  );
  return answer;
});

/** The body ends early and nobody says so. */
export const cutShort: Fault = once(isGet, async (_, send) => {
  const answer = await send();
  const whole = await buffer(answer.response.body as Readable);
  answer.response.body = Readable.from([whole.subarray(0, whole.length >> 1)]);
  return answer;
});

/** A listing that claims to go on and says not where, and one that holds less than it announces. */
export const partialListing: Fault = once(isListing, async (_, send) => {
  const answer = await send();
  const text = (await buffer(answer.response.body as Readable)).toString();
  const cut = text
    .replace('<IsTruncated>false</IsTruncated>', '<IsTruncated>true</IsTruncated>')
    .replaceAll(/<Contents>.*?<\/Contents>/g, '');
  answer.response.body = Readable.from([Buffer.from(cut)]);
  return answer;
});

/** The service did what was asked, and the answer never came. */
export const lostReply: Fault = once(changes, async (_, send) => {
  const { response } = await send();
  await buffer(response.body as Readable);
  throw Object.assign(new Error('socket hang up'), { code: 'ECONNRESET' });
});

/** As a service looks that does not know conditional puts and overwrites: the condition is gone before the request is signed. */
export function withoutConditions(client: S3Client): S3Client {
  client.middlewareStack.add(
    (next) => (args) => {
      const { headers } = args.request as { headers: Record<string, string> };
      delete headers['if-none-match'];
      return next(args);
    },
    { step: 'build', name: 'withoutConditions' },
  );
  return client;
}

/** A service that says what `text` says to one kind of question. */
export const answering =
  (query: string, text: string): Fault =>
  (request, send) =>
    query in (request.query ?? {}) && isGet(request) ? Promise.resolve(xml(200, text)) : send();

function xml(statusCode: number, text: string): Answer {
  const body = Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>${text}`);
  const headers = { 'content-type': 'application/xml', 'content-length': String(body.length) };
  return { response: { statusCode, headers, body: Readable.from([body]) } };
}
