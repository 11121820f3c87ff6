/**
 * Hours, days, ISO weeks, months and years as people of one time zone count them.
 *
 * The zone is always named: what "a day" is must not depend on the machine that happens to prune.
 */
import { LifeboatError } from '@lifeboat/foundation/errors';

export type Period = 'hour' | 'day' | 'week' | 'month' | 'year';

export const MAX_ZONE_BYTES = 64;
const DAY_MS = 86_400_000;

/** The name of a time zone, such as `UTC` or `Europe/Berlin`. Errors: `input.invalid` for one this program does not know. */
export function parseTimeZone(text: string): string {
  try {
    void formatFor(text);
  } catch (cause) {
    // Intl says nothing else: it does not know the zone.
    throw new LifeboatError('input.invalid', `'${text}' is no time zone this program knows, such as UTC`, { cause });
  }
  if (Buffer.byteLength(text) <= MAX_ZONE_BYTES) return text;
  throw new LifeboatError('input.invalid', `the name of a time zone has at most ${MAX_ZONE_BYTES} bytes`);
}

export class Calendar {
  readonly #format: Intl.DateTimeFormat;

  /** Errors: `input.invalid` for a zone this program does not know. */
  constructor(zone: string) {
    this.#format = formatFor(parseTimeZone(zone));
  }

  /**
   * The names of the periods an instant (Unix ms) lies in; two instants lie in one period exactly when the names are equal. An hour
   * carries its distance from UTC: the hour that comes twice when clocks are set back is two hours.
   */
  periodsOf(instantMs: number): Readonly<Record<Period, string>> {
    const seconds = Math.floor(instantMs / 1000) * 1000;
    const part: Record<string, number> = {};
    for (const { type, value } of this.#format.formatToParts(seconds)) part[type] = Number(value);
    const { year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0 } = part;
    const localMs = Date.UTC(year, month - 1, day, hour, minute, second);
    const date = new Date(localMs).toISOString();
    return {
      hour: `${date.slice(0, 13).replace('T', ' ')}h${offsetName(localMs - seconds)}`,
      day: date.slice(0, 10),
      week: isoWeek(Date.UTC(year, month - 1, day)),
      month: date.slice(0, 7),
      year: date.slice(0, 4),
    };
  }
}

function formatFor(zone: string): Intl.DateTimeFormat {
  return new Intl.DateTimeFormat('en-US', {
    timeZone: zone,
    calendar: 'gregory',
    numberingSystem: 'latn',
    hourCycle: 'h23',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
    second: 'numeric',
  });
}

/** Empty for UTC. */
function offsetName(offsetMs: number): string {
  if (offsetMs === 0) return '';
  const minutes = Math.round(Math.abs(offsetMs) / 60_000);
  const two = (value: number): string => String(value).padStart(2, '0');
  return ` ${offsetMs < 0 ? '-' : '+'}${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
}

/** ISO 8601: weeks begin on Monday; a week belongs to the year its Thursday lies in. */
function isoWeek(dayMs: number): string {
  const mondayIsZero = (new Date(dayMs).getUTCDay() + 6) % 7;
  const thursday = new Date(dayMs + (3 - mondayIsZero) * DAY_MS);
  const year = thursday.getUTCFullYear();
  const week = Math.floor((thursday.getTime() - Date.UTC(year, 0, 1)) / (7 * DAY_MS)) + 1;
  return `${year}-W${String(week).padStart(2, '0')}`;
}
