/** XML as nested calls, escaped in one place: `element('disk', { type: 'file' }, element('target', { dev: 'sda' }))`. */

/** Text that is XML already. Only this module makes it, so that nothing unescaped gets in. */
export class Xml {
  readonly source: string;

  constructor(source: string) {
    this.source = source;
  }
}

/** Attributes that are undefined, and content that is undefined, are left out. Strings are text and get escaped. */
export function element(
  name: string,
  attributes: Readonly<Record<string, string | number | undefined>> = {},
  ...content: readonly (Xml | string | number | undefined)[]
): Xml {
  const shown = Object.entries(attributes).filter(([, value]) => value !== undefined);
  const head = [name, ...shown.map(([key, value]) => `${key}='${escapeXml(String(value))}'`)].join(' ');
  const parts = content.filter((part) => part !== undefined);
  if (parts.length === 0) return new Xml(`<${head}/>`);
  const nested = parts.some((part) => part instanceof Xml);
  const body = parts.map((part) => (part instanceof Xml ? part.source : escapeXml(String(part))));
  return new Xml(nested ? `<${head}>\n${indent(body.join('\n'))}\n</${name}>` : `<${head}>${body.join('')}</${name}>`);
}

/** Control characters other than tab and line ends cannot be in XML at all: they become `?`. */
function escapeXml(text: string): string {
  return text
    .replaceAll(/[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/gu, '?')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll("'", '&apos;')
    .replaceAll('"', '&quot;');
}

function indent(text: string): string {
  return text
    .split('\n')
    .map((line) => `  ${line}`)
    .join('\n');
}
