// A place to drop files on.

export function acceptDrops(place, take) {
  let depth = 0; // children send their own enter and leave
  place.addEventListener("dragenter", (event) => { event.preventDefault(); depth += 1; place.classList.add("over"); });
  place.addEventListener("dragleave", () => { depth -= 1; if (depth <= 0) place.classList.remove("over"); });
  place.addEventListener("dragover", (event) => event.preventDefault());
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    place.classList.remove("over");
    if (event.dataTransfer.files.length) take(event.dataTransfer.files);
  });
}
