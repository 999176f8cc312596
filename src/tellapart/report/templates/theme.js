"use strict";
try {
  const theme = localStorage.getItem("tellapart-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch { /* a browser that keeps nothing for local files: follow the system */ }
