/**
 * The VGA text screen as text.
 *
 *   memory from b8000:  character, attribute, character, attribute, ...   80 x 25 of them are on the screen
 *
 * Which 25 rows are shown says a register that cannot be read without disturbing the guest, and Linux scrolls by moving
 * it. So the screenshot decides: the window whose blank cells are blank in the picture is the one on the screen.
 */
import type { Image } from './image.ts';

export const TEXT_MEMORY_ADDRESS = 0xb_8000;
export const TEXT_MEMORY_BYTES = 32 * 1024;

const COLUMNS = 80;
const ROWS = 25;
const CELL_HEIGHT = 16;
const SCREEN_HEIGHT = ROWS * CELL_HEIGHT;
/** Characters are 9 pixels wide, or 8. */
const SCREEN_WIDTHS = [720, 640];
const BLANKS = new Set([0x00, 0x20, 0xff]);
/** Code page 437, 0x80 and up; below, the ASCII characters. */
const UPPER_437 =
  'ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■ ';

export function isTextMode({ width, height }: Pick<Image, 'width' | 'height'>): boolean {
  return height === SCREEN_HEIGHT && SCREEN_WIDTHS.includes(width);
}

/** Lines without trailing blanks, joined by line ends, without empty lines at the end. Empty in graphics modes. */
export function readTextScreen(memory: Uint8Array, image: Image): string {
  if (!isTextMode(image)) return '';
  const origin = findOrigin(memory, blankCells(image));
  const lines: string[] = [];
  for (let row = 0; row < ROWS; row += 1) {
    let line = '';
    for (let column = 0; column < COLUMNS; column += 1) line += character(memory, origin + row * COLUMNS + column);
    lines.push(line.trimEnd());
  }
  return lines.join('\n').trimEnd();
}

/** In cells from the beginning of the memory. The first best wins, so that an empty screen is the one at 0. */
function findOrigin(memory: Uint8Array, blank: readonly boolean[]): number {
  let best = { origin: 0, mismatches: Number.POSITIVE_INFINITY };
  const cells = memory.length / 2;
  for (let origin = 0; origin + blank.length <= cells; origin += COLUMNS) {
    let mismatches = 0;
    for (let cell = 0; cell < blank.length && mismatches < best.mismatches; cell += 1) {
      if (isBlank(memory, origin + cell) !== blank[cell]) mismatches += 1;
    }
    if (mismatches < best.mismatches) best = { origin, mismatches };
  }
  return best.origin;
}

function blankCells({ width, rgb }: Image): boolean[] {
  const cellWidth = width / COLUMNS;
  const blank: boolean[] = [];
  for (let row = 0; row < ROWS; row += 1) {
    for (let column = 0; column < COLUMNS; column += 1) {
      blank.push(isPlain(rgb, { x: column * cellWidth, y: row * CELL_HEIGHT, cellWidth, width }));
    }
  }
  return blank;
}

function isPlain(rgb: Uint8Array, cell: { x: number; y: number; cellWidth: number; width: number }): boolean {
  const at = (x: number, y: number): number => (y * cell.width + x) * 3;
  const first = at(cell.x, cell.y);
  for (let y = cell.y; y < cell.y + CELL_HEIGHT; y += 1) {
    for (let x = cell.x; x < cell.x + cell.cellWidth; x += 1) {
      const pixel = at(x, y);
      for (let channel = 0; channel < 3; channel += 1) {
        if (rgb[pixel + channel] !== rgb[first + channel]) return false;
      }
    }
  }
  return true;
}

function cellAt(memory: Uint8Array, cell: number): { code: number; attribute: number } {
  return { code: memory[cell * 2] ?? 0, attribute: memory[cell * 2 + 1] ?? 0 };
}

function isBlank(memory: Uint8Array, cell: number): boolean {
  const { code, attribute } = cellAt(memory, cell);
  // A character in the colour of its background leaves no ink.
  return BLANKS.has(code) || (attribute & 0x0f) === ((attribute >> 4) & 0x07);
}

function character(memory: Uint8Array, cell: number): string {
  const { code } = cellAt(memory, cell);
  if (code >= 0x80) return UPPER_437[code - 0x80] ?? ' ';
  return code >= 0x20 && code < 0x7f ? String.fromCharCode(code) : ' ';
}
