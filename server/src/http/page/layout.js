// Where the boxes of a graph go: columns from left to right, each beside what it reads.

const BOX = { width: 196, height: 104 };
const GAP = { x: 62, y: 18, margin: 14, end: 60 };
/** What an arrow needs that passes a column between boxes. */
const LANE_HEIGHT = 20;

/** Each stage's column: one more than that of the farthest stage that it reads. */
function columnsOf(stages) {
  const column = new Map();
  // Inputs have smaller numbers.
  for (const stage of stages) {
    const before = stage.inputs.map(id => column.get(id)).filter(Number.isFinite);
    column.set(stage.stage_id, before.length ? 1 + Math.max(...before) : 0);
  }
  return column;
}

/**
 * Places boxes for stages, which come by ascending number. Gives the size of the whole, the place of each box by stage
 * number, and for each arrow the points that it goes through.
 */
export function layOut(stages) {
  const column = columnsOf(stages);
  const columns = [];
  const slots = new Map();
  const put = (x, slot) => {
    (columns[x] ??= []).push(slot);
    return slot;
  };
  for (const stage of stages) {
    const slot = put(column.get(stage.stage_id), { order: stage.stage_id, height: BOX.height, from: [] });
    slots.set(stage.stage_id, slot);
  }
  const arrows = [];
  for (const stage of stages) {
    for (const id of stage.inputs.filter(input => slots.has(input))) {
      const path = [slots.get(id)];
      for (let x = column.get(id) + 1; x < column.get(stage.stage_id); x += 1) {
        path.push(put(x, { order: id, height: LANE_HEIGHT, from: [path.at(-1)] }));
      }
      path.push(slots.get(stage.stage_id));
      path.at(-1).from.push(path.at(-2));
      arrows.push({ from: id, path });
    }
  }
  const heights = columns.map(slotsOf => slotsOf.reduce((sum, slot) => sum + slot.height + GAP.y, -GAP.y));
  const tallest = Math.max(...heights);
  columns.forEach((slotsOf, x) => {
    const wish = slot =>
      slot.from.length ? slot.from.reduce((sum, from) => sum + from.middle, 0) / slot.from.length : slot.order;
    slotsOf.sort((a, b) => wish(a) - wish(b) || a.order - b.order);
    let y = GAP.margin + (tallest - heights[x]) / 2;
    for (const slot of slotsOf) {
      Object.assign(slot, { x: GAP.margin + x * (BOX.width + GAP.x), y, middle: y + slot.height / 2 });
      y += slot.height + GAP.y;
    }
  });
  const last = slots.get(stages.at(-1).stage_id);
  const end = { x: last.x + BOX.width + GAP.x - 8, middle: last.middle };
  arrows.push({ from: stages.at(-1).stage_id, path: [last, end] });
  return {
    box: BOX,
    width: 2 * GAP.margin + columns.length * (BOX.width + GAP.x) - GAP.x + GAP.end,
    height: 2 * GAP.margin + tallest,
    places: slots,
    arrows: arrows.map(({ from, path }) => ({ from, line: lineOf(path), x: path[0].x + BOX.width, y: path[0].middle })),
  };
}

/** A curve from the right of the first place, through those between, to the left of the last. */
function lineOf(path) {
  let line = "";
  for (let index = 1; index < path.length; index += 1) {
    const [from, to] = [path[index - 1], path[index]];
    const x1 = from.x + BOX.width;
    const x2 = index === path.length - 1 ? to.x - 3 : to.x;
    const middle = (x1 + x2) / 2;
    line += index === 1 ? `M${x1} ${from.middle}` : `L${x1} ${from.middle}`;
    line += `C${middle} ${from.middle} ${middle} ${to.middle} ${x2} ${to.middle}`;
  }
  return line;
}
