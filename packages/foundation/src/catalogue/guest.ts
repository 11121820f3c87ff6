import type { Catalogue } from './entry.ts';

export const guestErrors = {} as const satisfies Catalogue;
