// Times in the zone of whoever looks; the page says all without this too.
for (const time of document.querySelectorAll("time[datetime]:not([title])")) {
  const at = new Date(time.dateTime);
  const pad = (n) => String(n).padStart(2, "0");
  time.title = time.textContent.trim();
  time.textContent = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${pad(at.getHours())}:${pad(at.getMinutes())}`;
}
