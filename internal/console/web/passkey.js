// Security keys answer to scripts only. A form with data-passkey waits for one, and then goes its way with the answer.
'use strict';
for (const form of document.querySelectorAll('form[data-passkey]')) {
  if (!window.PublicKeyCredential?.parseCreationOptionsFromJSON) continue;
  form.hidden = false;
  form.addEventListener('submit', async (event) => {
    if (form.elements.response.value) return;
    event.preventDefault();
    const button = event.submitter;
    const options = JSON.parse(form.dataset.passkey);
    try {
      const answer = form.dataset.make === 'yes'
        ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) })
        : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) });
      form.elements.response.value = JSON.stringify(answer);
      form.requestSubmit(button);
    } catch {
      form.querySelector('[role=alert]').hidden = false;
    }
  });
}
